"""A small network for engines on the simulated GPU, with its profiles and inputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sdrt_engines import Array, Engine, Signature
from sdrt_engines.plan_engine import PlanEngine
from sdrt_engines.shape_profiles import Profile, Range
from support.host_gpu import HostGpu
from support.onnx_writer import spec

SIGNATURE = Signature(
    (spec("x", "float32", "B", 4), spec("t", "float32", "B", 4)),
    (spec("y", "float32", "B", 4), spec("z", "float32", "B", "2*B")),
)


def network(feeds: dict[str, Array]) -> Mapping[str, Array]:
    x, t = feeds["x"], feeds["t"]
    return {"y": x * t, "z": np.full((len(x), 2 * len(x)), x.sum(), np.float32)}


def profile(rows: str) -> Profile:
    return Profile({name: (Range.parse(rows), Range.of(4)) for name in ("x", "t")})


FLEXIBLE = (profile("1..16"),)
STATIC = (profile("2"), profile("3"))
KINDS = {"flexible": FLEXIBLE, "static": STATIC}


def x_of(rows: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, 4), np.float32)


T = x_of(2, seed=99)


def feeds_of(rows: int, seed: int = 0) -> dict[str, Array]:
    return {"x": x_of(rows, seed), "t": x_of(rows, seed + 50)}


def static_engine(gpu: HostGpu) -> PlanEngine:
    return gpu.engine(SIGNATURE, network, STATIC)


def check(engine: Engine, rows: int = 2, seed: int = 0) -> None:
    """A run has the network's outputs."""
    feeds = feeds_of(rows, seed)
    got = engine.run(feeds)
    for name, expected in network(feeds).items():
        np.testing.assert_array_equal(got[name], expected)
