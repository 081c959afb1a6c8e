"""Outputs that stay on a device: here ONNX Runtime's buffers on the CPU, bound as on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sdrt_engines import (
    Array,
    DeviceArray,
    Engine,
    EngineError,
    FunctionEngine,
    Signature,
    TensorError,
    engine_from_onnx,
    to_host,
)
from sdrt_engines.onnxruntime_cuda import BoundEngine
from sdrt_engines.plan_set import Plan, PlanSet
from sdrt_engines.shape_profiles import Profile, Range
from support.for_cuda import FOR_CUDA
from support.onnx_writer import onnx_model, spec

pytestmark = FOR_CUDA

SIGNATURE = Signature(
    (spec("x", "float32", "B", 4), spec("t", "float32", "B", 4)),
    (spec("y", "float32", "B", 4), spec("z", "float32", "B", 4)),
)
NODES = [("Mul", ["x", "t"], ["y"]), ("Add", ["x", "t"], ["z"])]
X, T = np.arange(8, dtype=np.float32).reshape(2, 4), np.full((2, 4), 3, np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model(SIGNATURE, NODES))
    return path


@pytest.fixture
def engine(path: Path) -> Iterator[BoundEngine]:
    with bound(path) as engine:
        yield engine


def bound(path: Path) -> BoundEngine:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return BoundEngine(SIGNATURE, "net", session, "cpu")


def as_plans(engine: Engine) -> PlanSet:
    profile = Profile(
        {"x": (Range.parse("1..8"), Range.of(4)), "t": (Range.parse("1..8"), Range.of(4))}
    )
    return PlanSet(SIGNATURE, "plans", [Plan([profile], lambda: engine)])


def test_outputs_stay_on_the_device(engine: BoundEngine) -> None:
    outputs = engine.run_on_device({"x": X, "t": T}, ["z"])
    assert [*outputs] == ["z"]
    z = outputs["z"]
    assert isinstance(z, DeviceArray)
    assert (z.dtype, z.shape) == (np.dtype(np.float32), (2, 4))
    np.testing.assert_array_equal(z.numpy(), X + T)


def test_they_belong_to_their_holder(engine: BoundEngine) -> None:
    """Neither the engine's next run nor changes to a copy on the host change them."""
    y = engine.run_on_device({"x": X, "t": T})["y"]
    engine.run({"x": X + 1, "t": T + 1})
    to_host(y)[:] = -1
    np.testing.assert_array_equal(to_host(y), X * T)
    engine.close()
    np.testing.assert_array_equal(to_host(y), X * T)


@pytest.mark.parametrize("kind", ["bound", "cpu", "function", "plans"])
def test_every_engine_takes_them(kind: str, engine: BoundEngine, path: Path) -> None:
    y = engine.run_on_device({"x": X, "t": T})["y"]
    others: dict[str, Callable[[], Engine]] = {
        "bound": lambda: bound(path),
        "cpu": lambda: engine_from_onnx(path),
        "function": lambda: FunctionEngine(
            SIGNATURE, lambda feeds: {"y": feeds["x"] * feeds["t"], "z": feeds["x"] + feeds["t"]}
        ),
        "plans": lambda: as_plans(bound(path)),
    }
    with others[kind]() as other:
        for _ in range(2):
            got = other.run({"x": X, "t": y})
            np.testing.assert_array_equal(got["z"], X + X * T)


def test_outputs_can_be_fed_back(engine: BoundEngine) -> None:
    """An engine is fed with its own outputs, which never leave the device."""
    x: Array | DeviceArray = X
    for _ in range(3):
        x = engine.run_on_device({"x": x, "t": T})["z"]
    np.testing.assert_array_equal(to_host(x), X + 3 * T)


def test_plans_leave_theirs_on_the_device_too(engine: BoundEngine) -> None:
    y = as_plans(engine).run_on_device({"x": X, "t": T})["y"]
    assert isinstance(y, DeviceArray)
    np.testing.assert_array_equal(y.numpy(), X * T)


def test_engines_on_the_cpu_give_arrays(path: Path) -> None:
    with engine_from_onnx(path) as cpu:
        y = cpu.run_on_device({"x": X, "t": T})["y"]
    assert isinstance(y, np.ndarray)
    np.testing.assert_array_equal(y, X * T)


def test_a_mismatch_is_reported(engine: BoundEngine) -> None:
    y = engine.run_on_device({"x": X, "t": T})["y"]
    with pytest.raises(
        TensorError, match=r"^net: input 't' is float32 \(2, 4\), expected"
    ) as error:
        engine.run({"x": X[:1], "t": y})
    assert "dimension 0 must be 1, the B of this run, not 2" in str(error.value)
    counts = FunctionEngine(Signature((spec("n", "int64", "B", 4),), ()), lambda feeds: {})
    with pytest.raises(TensorError, match=r"convert it with \.astype\('int64'\)"):
        counts.run_on_device({"n": y})
    with pytest.raises(TensorError, match="no output 'q'"):
        engine.run_on_device({"x": X, "t": T}, ["q"])
    engine.close()
    with pytest.raises(EngineError, match="this engine is closed"):
        engine.run_on_device({"x": X, "t": T})
