"""Runs asks on a bundle's engines: ControlNets first, then the network that takes their sum.

A net adds its residuals to those of the nets before it, so on a GPU they stay there from engine to
engine. If the nets run only on some of the rows, the zeros of the other rows are inserted on the
host.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from sdrt import tensor_names as names
from sdrt.arrays import require_finite
from sdrt.ask import Answer, Ask, Link
from sdrt.targets.engines import Engines
from sdrt_engines import Array, DeviceArray, Feed, to_host

Residuals: TypeAlias = Mapping[str, Array | DeviceArray]  # by name
Rows: TypeAlias = tuple[int, ...]


def evaluate(ask: Ask, engines: Engines) -> Answer:
    """The outputs of an ask, without a check for NaN and infinity.

    EngineError if an engine does not open or fails.
    """
    start = time.perf_counter()
    residuals = _residual_feeds(ask, engines)
    between = time.perf_counter()
    last = ask.chain[-1]
    outputs = engines[last.component].run(
        {**engines.pinned(last), **last.changing, **residuals}, ask.outputs
    )
    end = time.perf_counter()
    seconds = {engines.stage(last.component): end - between}
    if residuals:
        seconds[engines.stage(ask.chain[0].component)] = between - start
    return Answer(outputs, seconds, engines.ran_on)


def checked_answer(ask: Ask, engines: Engines) -> Answer:
    """The answer to an ask. NonFiniteError if it holds NaN or infinity."""
    answer = evaluate(ask, engines)
    require_finite_answer(ask, answer, engines)
    return answer


def require_finite_answer(ask: Ask, answer: Answer, engines: Engines) -> None:
    """NonFiniteError for NaN or infinity in an answer; names the network that produced it first."""
    if all(np.isfinite(array).all() for array in answer.outputs.values()):
        return
    total: _Total | None = None
    for link in ask.chain[:-1]:
        total = _with_net(total, link, ask.num_rows, engines)
        for residual in total.residuals.values() if total else ():
            require_finite(link.component, to_host(residual))
    for array in answer.outputs.values():
        require_finite(ask.chain[-1].component, array)


@dataclass(frozen=True, eq=False)
class _Total:
    """The sum of the residuals so far, for the rows on which a net ran."""

    rows: Rows
    residuals: Residuals  # (len(rows), …) each

    def on_all_rows(self, num_rows: int) -> dict[str, Array]:
        """The residuals (R, …) on the host, with zeros in the other rows."""
        spread = {}
        for name, residual in self.residuals.items():
            spread[name] = np.zeros((num_rows, *residual.shape[1:]), residual.dtype)
            spread[name][list(self.rows)] = to_host(residual)
        return spread


def _residual_feeds(ask: Ask, engines: Engines) -> Mapping[str, Feed]:
    """The feeds of the last network from the ControlNets before it."""
    *nets, last = ask.chain
    if not nets:
        return {}
    total: _Total | None = None
    for link in nets:
        total = _with_net(total, link, ask.num_rows, engines)
    if total is None:
        return engines.zero_residuals(last)
    if total.rows == last.rows:
        return total.residuals
    return total.on_all_rows(ask.num_rows)


def _with_net(total: _Total | None, link: Link, num_rows: int, engines: Engines) -> _Total | None:
    """The sum with a net's residuals added, if it runs on any row."""
    if not link.rows:
        return total
    if total is None:
        return _Total(link.rows, _run_net(link, engines.zero_residuals(link), engines))
    if total.rows == link.rows:
        return _Total(link.rows, _run_net(link, _as_earlier(total.residuals), engines))
    rows, spread = list(link.rows), total.on_all_rows(num_rows)
    earlier = {name: residual[rows] for name, residual in spread.items()}
    for name, residual in _run_net(link, _as_earlier(earlier), engines).items():
        spread[name][rows] = to_host(residual)
    return _Total(tuple(range(num_rows)), spread)


def _run_net(link: Link, earlier: Mapping[str, Feed], engines: Engines) -> Residuals:
    feeds = {**engines.pinned(link), **link.changing, **earlier}
    return engines[link.component].run_on_device(feeds)


def _as_earlier(residuals: Mapping[str, Feed]) -> dict[str, Feed]:
    return {names.earlier(name): residual for name, residual in residuals.items()}
