"""The protocol between a generation and the driver that runs its networks.

A generation yields an `Ask` for each run that it needs and receives an `Answer`. It does not know
the engines, so one driver may run each ask at once (`answered`), and another may join the asks of
many generations into one run.

Rows are the first axis of every array: R rows are R images, texts or (negative, positive) branches
of images. The result of a row does not depend on other rows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypeAlias, TypeVar
from weakref import ref

import numpy as np

from sdrt_engines import Array

T = TypeVar("T")


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Constant:
    """Feeds of one link that stay the same from ask to ask, (rows, …) each: uploaded once.

    Two of them are equal only if they are the same object.
    """

    feeds: Mapping[str, Array] = field(default_factory=dict)
    _parts: dict[tuple[int, int], Constant] = field(default_factory=dict, repr=False)

    def part(self, rows: slice) -> Constant:
        """The feeds of some rows: the same object each time."""
        if not self.feeds:
            return self
        key = rows.start, rows.stop
        if key not in self._parts:
            self._parts[key] = Constant({name: array[rows] for name, array in self.feeds.items()})
        return self._parts[key]


NOTHING = Constant()


@dataclass(frozen=True, eq=False, slots=True)
class Link:
    """One network's part in an ask: the rows that it runs on, and its feeds."""

    component: str
    rows: tuple[int, ...]  # indices into the ask's rows, ascending; empty: not run
    changing: Mapping[str, Array]  # (len(rows), …) each, or () for a scalar timestep
    constant: Constant = NOTHING


@dataclass(frozen=True, eq=False, slots=True)
class Ask:
    """A request to run these networks in order; `outputs` are those of the last one.

    All but the last are ControlNets: each adds its residuals to those of the nets before it, and
    the last network takes the sum. Rows on which none of them runs get residuals of zero. The last
    network runs on all rows.
    """

    chain: tuple[Link, ...]
    outputs: tuple[str, ...]

    @property
    def num_rows(self) -> int:
        return len(self.chain[-1].rows)

    @property
    def key(self) -> Hashable:
        """Asks with equal keys may be joined: same networks, outputs and shapes without rows.

        Networks that take one scalar timestep for all rows also need equal timesteps.
        """
        return self.outputs, tuple(
            (link.component, name, array.shape[1:] if array.ndim else array.item())
            for link in self.chain
            for feeds in (link.constant.feeds, link.changing)
            for name, array in feeds.items()
        )


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """The requested outputs, (rows, …) each, the seconds of each stage, and where it ran."""

    outputs: Mapping[str, Array]
    seconds: Mapping[str, float] = field(default_factory=dict)
    ran_on: str = ""  # as in `Result.engine`


Asks: TypeAlias = Generator[Ask, Answer, T]  # yields asks, returns a result
Run: TypeAlias = Callable[[Ask], Answer]


def answered(asks: Asks[T], run: Run) -> T:
    """The result of the generator when `run` answers each of its asks."""
    try:
        ask = next(asks)
        while True:
            ask = asks.send(run(ask))
    except StopIteration as finished:
        value: T = finished.value
        return value


class Joiner:
    """Joins asks with equal keys into one ask for all of their rows, in their order.

    Constant feeds are joined, and so uploaded, again only if the combination of asks changes.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[tuple[ref[Constant], ...], Constant]] = {}  # by component

    def __call__(self, asks: Sequence[Ask]) -> Ask:
        if len(asks) == 1:
            return asks[0]
        offsets = list(accumulate((ask.num_rows for ask in asks[:-1]), initial=0))
        links = zip(*(ask.chain for ask in asks), strict=True)
        return Ask(tuple(self._joined(each, offsets) for each in links), asks[0].outputs)

    def _joined(self, links: Sequence[Link], offsets: Sequence[int]) -> Link:
        component, placed = links[0].component, zip(links, offsets, strict=True)
        return Link(
            component,
            tuple(offset + row for link, offset in placed for row in link.rows),
            _joined_feeds([link.changing for link in links]),
            self._joined_constant(component, [link.constant for link in links]),
        )

    def _joined_constant(self, component: str, constants: Sequence[Constant]) -> Constant:
        members, joined = self._last.get(component, ((), NOTHING))
        if [member() for member in members] != list(constants):
            joined = Constant(_joined_feeds([constant.feeds for constant in constants]))
            self._last[component] = tuple(map(ref, constants)), joined
        return joined


def split(answer: Answer, asks: Sequence[Ask]) -> list[Answer]:
    """Each ask's rows of the joint answer, and its share of the seconds."""
    total, end, answers = sum(ask.num_rows for ask in asks), 0, []
    for ask in asks:
        start, end = end, end + ask.num_rows
        share = ask.num_rows / total
        answers.append(
            Answer(
                {name: array[start:end] for name, array in answer.outputs.items()},
                {stage: share * seconds for stage, seconds in answer.seconds.items()},
                answer.ran_on,
            )
        )
    return answers


def part_of(ask: Ask, rows: range) -> Ask:
    """The ask for some of its rows."""
    return Ask(tuple(_part_of_link(link, rows) for link in ask.chain), ask.outputs)


def _part_of_link(link: Link, rows: range) -> Link:
    places = slice(*(bisect_left(link.rows, row) for row in (rows.start, rows.stop)))
    return Link(
        link.component,
        tuple(row - rows.start for row in link.rows[places]),
        {name: array[places] if array.ndim else array for name, array in link.changing.items()},
        link.constant.part(places),
    )


def joint(answers: Sequence[Answer]) -> Answer:
    """The answer to an ask from those to its parts, in their order."""
    seconds: Counter[str] = Counter()
    for answer in answers:
        seconds.update(answer.seconds)
    outputs = _joined_feeds([answer.outputs for answer in answers])
    return Answer(outputs, dict(seconds), answers[-1].ran_on)


def _joined_feeds(feeds: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {
        name: np.concatenate([each[name] for each in feeds]) if array.ndim else array
        for name, array in feeds[0].items()
    }
