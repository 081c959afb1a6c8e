from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sdrt import Request
from sdrt.benchmarking.loadgen import Offline, Server, SingleStream, scenario_figures
from sdrt.benchmarking.scenarios import Extent
from sdrt.benchmarking.workload import Workload
from support.simulated_clock import SimulatedClock
from support.toy_bundle import write_toy_bundle


def test_a_single_stream_s_result_is_its_90th_percentile() -> None:
    clock = SimulatedClock()
    seconds = [1.0] * 9 + [5.0]
    outcome = SingleStream(Extent(100)).measure(clock.serving(seconds), clock)
    (latency,) = outcome.figures
    assert latency.values == tuple(seconds * 10)
    assert (outcome.facts["p90"], outcome.facts["early_stopping_p90"]) == (5.0, 5.0)
    assert outcome.verdict == (
        "VALID: the 90th percentile latency is 5.00 s, and at most 5.00 s with 99% confidence"
    )


def test_too_few_queries_make_a_single_stream_invalid() -> None:
    outcome = SingleStream(Extent(3)).outcome([0.25, 0.5, 0.125])
    assert not outcome.valid
    assert "early_stopping_p90" not in outcome.facts
    assert outcome.verdict == (
        "INVALID: the 90th percentile latency is 500 ms, but 3 queries are too few: --queries 64"
    )


def test_offline_counts_images_until_the_last_is_done() -> None:
    clock = SimulatedClock()
    outcome = Offline(Extent(10), batch=4).measure(clock.serving([2.0, 3.0, 1.0]), clock)
    rate, batches = outcome.figures
    assert (rate.values, rate.unit) == ((2.0,), "images/s")
    assert batches.values == (2.0, 3.0, 1.0)
    assert outcome.verdict == "VALID: 2.00 images/s, 12 images in 3 batches of 4"


def server(num_queries: int = 459, bound: float = 10.0) -> Server:
    return Server(Extent(num_queries), rate=0.5, latency_bound=bound, seed=2)


def test_a_fast_server_is_valid() -> None:
    clock = SimulatedClock()
    outcome = server().measure(clock.serving([0.5]), clock)
    latency, completed = outcome.figures
    assert outcome.valid
    assert outcome.facts["num_over_bound"] == 0
    assert outcome.verdict.startswith("VALID: the 99th percentile latency is ")
    assert len(latency.values) == 459
    assert min(latency.values) == pytest.approx(0.5)
    assert list(completed.values) == pytest.approx([458 / (server().arrivals[-1] + 0.5)], rel=0.01)


def test_a_server_that_cannot_keep_up_is_invalid() -> None:
    clock = SimulatedClock()
    outcome = server().measure(clock.serving([4.0]), clock)
    assert not outcome.valid
    assert outcome.verdict.startswith("INVALID: the 99th percentile latency is ")
    assert outcome.verdict.endswith(" s, the bound 10 s: give a lower --rate")
    assert (outcome.facts["rate"], outcome.facts["latency_bound"]) == (0.5, 10.0)


@pytest.mark.parametrize(("num_over", "needed"), [(0, 459), (1, 662)])
def test_few_queries_do_not_tell_even_if_they_are_fast(num_over: int, needed: int) -> None:
    num_queries = 200
    completions = [12.0] * num_over + [1.0] * (num_queries - num_over)
    outcome = server(num_queries).outcome([0.0] * num_queries, completions)
    assert outcome.verdict == (
        f"INVALID: the 99th percentile latency is 1.00 s, the bound 10 s, but 200 queries are "
        f"too few: --queries {needed} is enough if no more exceed the bound"
    )


def test_a_latency_on_the_bound_keeps_it() -> None:
    outcome = server().outcome([0.0] * 459, [10.0] * 459)
    assert outcome.valid


def test_one_query_has_no_rate() -> None:
    (latency,) = server(1).outcome([0.0], [1.0]).figures
    assert latency.name == "latency"


def test_every_server_is_judged_alike() -> None:
    """A server that starts a batch whenever two queries have arrived."""

    def in_pairs(arrivals: Sequence[float]) -> list[float]:
        starts = arrivals[1::2]
        return [start + 1.0 for start in starts for _ in range(2)]

    scenario = server(460)
    outcome = scenario.served_by(in_pairs)
    latency, _ = outcome.figures
    assert latency.values[1] == 1.0
    assert latency.values[0] == pytest.approx(1.0 + scenario.arrivals[1])


@pytest.mark.parametrize(
    ("scenario", "names"),
    [
        (SingleStream(Extent(3)), ["latency"]),
        (Offline(Extent(3), batch=2), ["offline", "batch of 2"]),
        (Server(Extent(3), rate=1000.0, latency_bound=60.0), ["latency", "completed"]),
    ],
)
def test_on_a_bundle(
    scenario: SingleStream | Offline | Server, names: list[str], tmp_path: Path
) -> None:
    bundle = write_toy_bundle(tmp_path / "toy")
    request = Request("a red circle", num_inference_steps=2, seed=0)
    said: list[str] = []
    workload = Workload(str(bundle), "cpu", request)
    figures = list(scenario_figures(scenario, workload, said.append))
    assert [figure.name for figure in figures] == names
    assert {figure.target for figure in figures} == {"cpu"}
    assert all(figure.notes["verdict"] for figure in figures)
    assert said[:2] == ["warm-up 1 of 1", f"run 1 of {len(said) - 1}"]
