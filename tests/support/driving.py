"""Drives several generations together, as a server may."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sdrt import Pipeline, Request, Result
from sdrt.ask import Answer, Ask, Joiner, split
from sdrt.generation import Events
from sdrt.targets.engines import Engines
from sdrt.targets.evaluation import evaluate

# The generations that shared each run, and its ask.
Runs = Sequence[tuple[tuple[str, ...], Ask]]


def assert_as_alone(pipeline: Pipeline, requests: Mapping[str, Request], atol: float = 0.0) -> Runs:
    """Asserts that all requests together give what each gives alone: bit for bit, or latents that
    differ by `atol` and images by 1/255 at most."""
    alone = {name: pipeline(request) for name, request in requests.items()}
    driver = Driver(pipeline.engines)
    generations = {name: pipeline.generation(each) for name, each in requests.items()}
    together = driver({name: each.events() for name, each in generations.items()})
    for name, result in alone.items():
        latents = together[name].latents
        np.testing.assert_allclose(latents, result.latents, rtol=0, atol=atol, err_msg=name)
        for image, expected in zip(together[name].images, result.images, strict=True):
            difference = abs(np.asarray(image).astype(int) - np.asarray(expected))
            assert difference.max() <= (1 if atol else 0)
    return driver.runs


@dataclass
class Driver:
    """Drives generations together: of the pending asks, those with the most common key run as one.

    `runs` holds the generations that shared each run, and its ask.
    """

    engines: Engines
    join: Joiner = field(default_factory=Joiner)
    runs: list[tuple[tuple[str, ...], Ask]] = field(default_factory=list)

    def __call__(self, generations: Mapping[str, Events]) -> dict[str, Result]:
        results: dict[str, Result] = {}
        waiting: dict[str, Ask] = {}
        for name, events in generations.items():
            self._send(name, events, None, waiting, results)
        while waiting:
            names = self._next_run(waiting)
            asks = [waiting.pop(name) for name in names]
            joined = self.join(asks)
            self.runs.append((tuple(names), joined))
            answers = split(evaluate(joined, self.engines), asks)
            for name, answer in zip(names, answers, strict=True):
                self._send(name, generations[name], answer, waiting, results)
        return results

    def _next_run(self, waiting: Mapping[str, Ask]) -> Sequence[str]:
        groups: dict[Hashable, list[str]] = defaultdict(list)
        for name, ask in waiting.items():
            groups[ask.key].append(name)
        return max(groups.values(), key=len)

    def _send(
        self,
        name: str,
        events: Events,
        answer: Answer | None,
        waiting: dict[str, Ask],
        results: dict[str, Result],
    ) -> None:
        """Sends an answer, skips steps, and keeps the next ask or the result."""
        try:
            event = events.send(answer)
            while not isinstance(event, Ask):
                event = events.send(None)
            waiting[name] = event
        except StopIteration as finished:
            results[name] = finished.value
