"""Several plans of one network as one engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sdrt_engines import Array, Engine, EngineError, FunctionEngine, Signature, TensorError
from sdrt_engines.engine import Feed
from sdrt_engines.plan_set import Plan, PlanSet
from sdrt_engines.shape_profiles import Profile, Range
from support.onnx_writer import spec

SIGNATURE = Signature(
    (spec("x", "float32", "B", "n"), spec("scale", "float32", "B")),
    (spec("y", "float32", "B", "n"),),
)


class Plans:
    """Plans with engines that each add their own number, and a list of those that were opened."""

    def __init__(self, *sizes: str) -> None:
        self.opened: list[int] = []
        self.engines: dict[int, Engine] = {}
        self.plans = [self._plan(i, text.split()) for i, text in enumerate(sizes)]
        self.engine = PlanSet(SIGNATURE, "net", self.plans)

    def _plan(self, number: int, sizes: Sequence[str]) -> Plan:
        batch = Range.parse("1..2")
        profiles = [Profile({"x": (batch, Range.parse(n)), "scale": (batch,)}) for n in sizes]

        def opened() -> Engine:
            self.opened.append(number)
            time.sleep(0.001)  # another thread comes meanwhile
            self.engines[number] = FunctionEngine(
                SIGNATURE, lambda feeds: {"y": feeds["x"] * feeds["scale"][:, None] + number}
            )
            return self.engines[number]

        return Plan(profiles, opened)

    def run(self, n: int, scale: Feed | None = None) -> Array:
        feeds: dict[str, Feed] = {"x": np.zeros((1, n), np.float32)}
        feeds["scale"] = np.ones(1, np.float32) if scale is None else scale
        return self.engine.run(feeds)["y"]


def test_the_plan_for_the_shapes_runs() -> None:
    plans = Plans("8", "16 32")
    assert plans.run(16)[0, 0] == 1
    assert plans.run(8)[0, 0] == 0
    assert plans.run(32)[0, 0] == 1


def test_a_plan_opens_once_and_only_when_it_is_used() -> None:
    plans = Plans("8", "16", "32")
    assert plans.opened == []
    for n in (16, 16, 8, 16):
        plans.run(n)
    assert plans.opened == [1, 0]


def test_the_plan_that_is_tuned_for_the_shapes_comes_before_a_wide_one() -> None:
    assert Plans("4..64", "16").run(16)[0, 0] == 1


def test_of_equal_plans_the_first_runs() -> None:
    assert Plans("16", "16").run(16)[0, 0] == 0


def test_shapes_outside_all_plans_are_reported_with_the_known_ones() -> None:
    with pytest.raises(TensorError) as raised:
        Plans("8", "16..32").run(12)
    assert str(raised.value) == (
        "net: no profile of this engine covers x (1, 12), scale (1,); it has: "
        "x (1..2, 8), scale (1..2,); x (1..2, 16..32), scale (1..2,): "
        "build one with `sdrt build --shapes WIDTHxHEIGHT --batch N --chunks N`"
    )


def test_a_pinned_feed_is_good_for_every_plan() -> None:
    plans = Plans("8", "16")
    scale = np.full(1, 3, np.float32)
    pinned = plans.engine.pin("scale", scale)
    scale[:] = 0
    x = {n: np.ones((1, n), np.float32) for n in (8, 16)}
    assert plans.engine.run({"x": x[8], "scale": pinned})["y"][0, 0] == 3
    assert plans.engine.run({"x": x[16], "scale": pinned})["y"][0, 0] == 4


def test_closing_closes_what_was_opened() -> None:
    plans = Plans("8", "16")
    plans.run(8)
    plans.engine.close()
    assert plans.engines[0].closed
    with pytest.raises(EngineError, match="this engine is closed"):
        plans.run(8)


def test_threads_share_what_is_opened() -> None:
    plans = Plans("8", "16")
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(plans.run, [8, 16] * 50))
    assert [int(result[0, 0]) for result in results] == [0, 1] * 50
    assert sorted(plans.opened) == [0, 1]
