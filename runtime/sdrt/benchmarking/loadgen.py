"""The scenarios of MLPerf's loadgen, and its verdicts on them (`loadgen/results.cc`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import Any, Protocol

from sdrt.benchmarking.early_stopping import queries_needed, trusted_percentile
from sdrt.benchmarking.figures import Figure, quantity
from sdrt.benchmarking.scenarios import (
    Clock,
    Extent,
    InOrder,
    Run,
    Serve,
    WallClock,
    all_at_once,
    one_by_one,
    poisson_arrivals,
)
from sdrt.benchmarking.statistics import percentile
from sdrt.benchmarking.workload import Report, Served, Workload, unreported

_P90, _P99 = 0.9, 0.99  # loadgen's percentiles of SingleStream and Server


@dataclass(frozen=True)
class Outcome:
    """The outcome of a scenario. `verdict` begins with VALID or INVALID and gives the reason.

    `facts` go into the rows.
    """

    figures: tuple[Figure, ...]  # without a target yet
    valid: bool
    verdict: str
    facts: dict[str, Any]


class Scenario(Protocol):
    """Serves numbered queries and judges their latencies."""

    @property
    def batch(self) -> int:
        """The number of images per query."""

    @property
    def extent(self) -> Extent:
        """The minimum length of the scenario."""

    def measure(self, run: Run, clock: Clock) -> Outcome: ...


@dataclass(frozen=True)
class SingleStream:
    """One query after another. The result is the 90th percentile of the latencies."""

    extent: Extent
    batch: int = 1

    def measure(self, run: Run, clock: Clock) -> Outcome:
        return self.outcome(one_by_one(run, self.extent, clock))

    def outcome(self, latencies: Sequence[float]) -> Outcome:
        ordered = sorted(latencies)
        p90, trusted = percentile(ordered, _P90), trusted_percentile(ordered, _P90)
        needed = queries_needed(1, _P90)
        text = f"the 90th percentile latency is {quantity(p90, 's')}"
        if trusted is None:
            reason = f"{text}, but {len(ordered)} queries are too few: --queries {needed}"
        else:
            reason = f"{text}, and at most {quantity(trusted, 's')} with 99% confidence"
        facts = {"scenario": "single-stream", "p90": p90, "early_stopping_p90": trusted}
        return _outcome((_latency(latencies),), trusted is not None, reason, facts)


@dataclass(frozen=True)
class Offline:
    """All samples at once, in batches. The result is images per second."""

    extent: Extent
    batch: int

    def measure(self, run: Run, clock: Clock) -> Outcome:
        return self.outcome(all_at_once(run, self.extent, self.batch, clock))

    def outcome(self, completions: Sequence[float]) -> Outcome:
        num_images = len(completions) * self.batch
        rate = num_images / completions[-1]
        seconds = tuple(after - before for before, after in pairwise((0.0, *completions)))
        figures = (
            Figure("offline", "images/s", (rate,), ""),
            Figure(f"batch of {self.batch}", "s", seconds, ""),
        )
        reason = (
            f"{quantity(rate, 'images/s')}, {num_images} images in {len(completions)} batches of "
            f"{self.batch}"
        )
        facts = {"scenario": "offline", "batch": self.batch, "num_images": num_images}
        return _outcome(figures, True, reason, facts)


@dataclass(frozen=True)
class Server:
    """Queries at random times. Valid if 99 % of them are served within the bound."""

    extent: Extent
    rate: float  # queries per second, on average
    latency_bound: float  # seconds
    seed: int = 0
    batch: int = 1

    @property
    def arrivals(self) -> list[float]:
        """Seconds from the start; equal for equal seeds."""
        return poisson_arrivals(self.rate, self.extent, self.seed)

    def measure(self, run: Run, clock: Clock) -> Outcome:
        return self.served_by(InOrder(run, clock))

    def served_by(self, serve: Serve) -> Outcome:
        """The verdict on a server of the arrivals, in any order and any number at once."""
        arrivals = self.arrivals
        return self.outcome(arrivals, serve(arrivals))

    def outcome(self, arrivals: Sequence[float], completions: Sequence[float]) -> Outcome:
        latencies = [end - start for start, end in zip(arrivals, completions, strict=True)]
        valid, reason = self._verdict(latencies)
        facts = {
            "scenario": "server",
            "rate": self.rate,
            "latency_bound": self.latency_bound,
            "p99": percentile(sorted(latencies), _P99),
            "num_over_bound": self._num_over(latencies),
        }
        figures = (_latency(latencies), *_completed(completions))
        return _outcome(figures, valid, reason, facts)

    def _num_over(self, latencies: Sequence[float]) -> int:
        return sum(latency > self.latency_bound for latency in latencies)

    def _verdict(self, latencies: Sequence[float]) -> tuple[bool, str]:
        p99, bound = percentile(sorted(latencies), _P99), self.latency_bound
        text = f"the 99th percentile latency is {quantity(p99, 's')}, the bound {bound:g} s"
        if p99 > bound:
            return False, f"{text}: give a lower --rate"
        needed = queries_needed(self._num_over(latencies), _P99)
        if len(latencies) < needed:
            return False, (
                f"{text}, but {len(latencies)} queries are too few: --queries {needed} is enough "
                "if no more exceed the bound"
            )
        return True, text


def scenario_figures(
    scenario: Scenario,
    workload: Workload,
    report: Report = unreported,
    clock: Clock | None = None,
) -> Iterator[Figure]:
    """Runs the scenario on the workload's bundle. Every figure's notes hold the verdict."""
    with workload.open() as pipeline:
        num_runs = ceil(scenario.extent.queries / scenario.batch)
        serve = Served(pipeline, workload, scenario.batch, num_runs, report)
        serve.warm_up()
        outcome = scenario.measure(serve, clock or WallClock())
    for figure in outcome.figures:
        yield replace(figure, target=serve.target, notes=outcome.facts)


def _outcome(
    figures: tuple[Figure, ...], valid: bool, reason: str, facts: dict[str, Any]
) -> Outcome:
    verdict = f"{'VALID' if valid else 'INVALID'}: {reason}"
    known = {name: value for name, value in facts.items() if value is not None}
    return Outcome(figures, valid, verdict, {**known, "valid": valid, "verdict": verdict})


def _latency(latencies: Sequence[float]) -> Figure:
    return Figure("latency", "s", tuple(latencies), "")


def _completed(completions: Sequence[float]) -> Iterator[Figure]:
    """loadgen's count: the first query, which arrives at 0, opens the interval."""
    if len(completions) > 1:
        rate = (len(completions) - 1) / max(completions)
        yield Figure("completed", "queries/s", (rate,), "")
