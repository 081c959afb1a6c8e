"""Requirements for every engine of an ONNX file, whatever library runs it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sdrt_engines import (
    Engine,
    EngineError,
    Signature,
    TensorError,
    engine_from_onnx,
    openvino_engine_from_onnx,
)
from support.for_cuda import FOR_CUDA
from support.onnx_writer import ELEMENT_TYPES, onnx_model, spec
from support.opening import Opener, open_bound

# out = sample * scale, picked = scale[index]
SIGNATURE = Signature(
    inputs=(spec("sample", "float32", "B", 4), spec("index", "int64", "B")),
    outputs=(spec("out", "float32", "B", 4), spec("picked", "float32", "B")),
)
NODES = [("Mul", ["sample", "scale"], ["out"]), ("Gather", ["scale", "index"], ["picked"])]
SCALE = np.array([1, 2, 3, 4], np.float32)
MODEL = onnx_model(SIGNATURE, NODES, {"scale": SCALE})
UNKNOWN_OPERATOR = onnx_model(SIGNATURE, [("Frobnicate", ["sample"], ["out"])])

SAMPLE = np.arange(8, dtype=np.float32).reshape(2, 4)
FEEDS = {"sample": SAMPLE, "index": np.array([0, 3])}


OPENERS = [
    pytest.param(engine_from_onnx, id="onnxruntime"),
    pytest.param(
        openvino_engine_from_onnx,
        id="openvino",
        marks=pytest.mark.needs("openvino"),
    ),
]


@pytest.fixture(params=OPENERS)
def open_onnx(request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.param
    return opener


@pytest.fixture(params=[*OPENERS, pytest.param(open_bound, id="bound", marks=FOR_CUDA)])
def open_any(request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.param
    return opener


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL)
    return path


@pytest.fixture
def engine(open_any: Opener, path: Path) -> Iterator[Engine]:
    with open_any(path, name="unet", num_threads=1) as engine:
        yield engine


def test_a_run_computes_the_network(engine: Engine) -> None:
    results = engine.run(FEEDS)
    np.testing.assert_array_equal(results["out"], SAMPLE * SCALE)
    np.testing.assert_array_equal(results["picked"], [1, 4])
    assert engine.signature == SIGNATURE


def test_outputs_come_by_name(engine: Engine) -> None:
    results = engine.run(FEEDS, ["picked"])
    assert {name: array.tolist() for name, array in results.items()} == {"picked": [1, 4]}


def test_any_memory_layout_is_fed(engine: Engine) -> None:
    columns = np.asfortranarray(SAMPLE)
    np.testing.assert_array_equal(engine.run({**FEEDS, "sample": columns})["out"], SAMPLE * SCALE)
    every_other = np.repeat(SAMPLE, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(
        engine.run({**FEEDS, "sample": every_other})["out"], SAMPLE * SCALE
    )


def test_results_stay_the_callers(engine: Engine) -> None:
    first = engine.run(FEEDS)["out"]
    engine.run({**FEEDS, "sample": SAMPLE + 1})
    np.testing.assert_array_equal(first, SAMPLE * SCALE)
    first += 1  # writable


def test_pinned_feeds(engine: Engine) -> None:
    sample = SAMPLE.copy()
    pinned = engine.pin("sample", sample)
    sample[:] = 100  # comes too late
    for _ in range(2):
        out = engine.run({**FEEDS, "sample": pinned})["out"]
        np.testing.assert_array_equal(out, SAMPLE * SCALE)


def test_shapes_change_from_run_to_run(engine: Engine) -> None:
    for rows in (2, 1, 2, 3, 1):
        feeds = {"sample": np.ones((rows, 4), np.float32), "index": np.full(rows, 2)}
        results = engine.run(feeds)
        np.testing.assert_array_equal(results["out"], np.tile(SCALE, (rows, 1)))
        np.testing.assert_array_equal(results["picked"], np.full(rows, 3))


def test_a_shape_that_the_network_cannot_take(open_onnx: Opener, tmp_path: Path) -> None:
    """OpenVINO finds it while compiling, ONNX Runtime while running."""
    path = tmp_path / "model.onnx"
    signature = Signature((spec("x", "float32", "B"),), (spec("y", "float32", 2, 2),))
    nodes = [("Reshape", ["x", "square"], ["y"])]
    path.write_bytes(onnx_model(signature, nodes, {"square": np.array([2, 2])}))
    with open_onnx(path, name="unet") as engine:
        with pytest.raises(EngineError, match=r"unet: \w+ failed on x \(3,\): .*shape"):
            engine.run({"x": np.ones(3, np.float32)})
        assert engine.run({"x": np.ones(4, np.float32)})["y"].shape == (2, 2)


def test_an_output_of_another_shape_than_declared(open_any: Opener, tmp_path: Path) -> None:
    """It would be broadcast, or end in an error of numpy far from its cause."""
    path = tmp_path / "model.onnx"
    nodes = [("Transpose", ["sample"], ["out"]), NODES[1]]
    declared = Signature(SIGNATURE.inputs, (spec("out", "float32", "B", 4), SIGNATURE.outputs[1]))
    path.write_bytes(onnx_model(declared, nodes, {"scale": SCALE}))
    with (
        open_any(path) as engine,
        pytest.raises(
            (TensorError, EngineError),
            match=r"output 'out' is float32 \(4, 2\), expected .*\(B, 4\)|for output: out",
        ),
    ):
        engine.run(FEEDS)


def test_feeds_are_checked(engine: Engine) -> None:
    with pytest.raises(TensorError, match=r"unet: input 'index' is int64 \(1,\), expected int64"):
        engine.run({**FEEDS, "index": np.array([0])})


def test_threads_share_an_engine(engine: Engine) -> None:
    def run(i: int) -> bool:
        out = engine.run({**FEEDS, "sample": SAMPLE + i})["out"]
        return bool((out == (SAMPLE + i) * SCALE).all())

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(run, range(200)))


def test_a_failure_inside_the_network_is_reported_once(
    open_any: Opener, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    signature = Signature(
        (spec("sample", "float32", "B", 4), spec("shape", "int64", 2)),
        (spec("out", "float32", "h", "w"),),
    )
    path.write_bytes(onnx_model(signature, [("Reshape", ["sample", "shape"], ["out"])]))
    with open_any(path, name="unet") as engine:
        assert engine.run({"sample": SAMPLE, "shape": np.array([8, 1])})["out"].shape == (8, 1)
        with pytest.raises(EngineError) as caught:
            engine.run({"sample": SAMPLE, "shape": np.array([3, 2])})
        message = str(caught.value)
        library = "openvino" if open_any is openvino_engine_from_onnx else "onnxruntime"
        assert message.startswith(f"unet: {library} failed on sample (2, 4), shape (2,): ")
        assert "reshape" in message.lower()
        for own in ("ONNXRuntimeError", "Exception from", "Check '", "\n"):
            assert own not in message
        assert capfd.readouterr().err == ""
        engine.run({"sample": SAMPLE, "shape": np.array([8, 1])})  # it can still run


def test_a_size_that_only_a_run_shows(open_any: Opener, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    signature = Signature((spec("x", "int64", "n"),), (spec("y", "int64", 1, "found"),))
    path.write_bytes(onnx_model(signature, [("NonZero", ["x"], ["y"])]))
    with open_any(path) as engine:
        for x in ([0, 1, 1], [1, 1, 1], [0, 0, 1], [1, 0, 1]):
            y = engine.run({"x": np.array(x)})["y"]
            assert y.tolist() == [np.flatnonzero(x).tolist()]


@pytest.mark.parametrize("dtype", [name for name in ELEMENT_TYPES if name != "bool"])
def test_every_dtype(open_any: Opener, tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "model.onnx"
    signature = Signature((spec("x", dtype, "B"),), (spec("y", dtype, "n", "B"),))
    path.write_bytes(
        onnx_model(signature, [("Unsqueeze", ["x", "axis"], ["y"])], {"axis": np.array([0])})
    )
    x = np.array([1, 2, 3], dtype)
    with open_any(path) as engine:
        y = engine.run({"x": x})["y"]
    assert y.dtype == x.dtype
    assert y.tolist() == [[1, 2, 3]]


def test_a_scalar(open_any: Opener, tmp_path: Path) -> None:
    """Like the timestep in optimum's UNets."""
    path = tmp_path / "model.onnx"
    signature = Signature(
        (spec("x", "float32", "B"), spec("t", "float32")), (spec("y", "float32", "B"),)
    )
    path.write_bytes(onnx_model(signature, [("Mul", ["x", "t"], ["y"])]))
    with open_any(path) as engine:
        y = engine.run({"x": np.array([1, 2], np.float32), "t": np.array(7, np.float32)})["y"]
    assert y.tolist() == [7, 14]


def test_a_closed_engine_frees_its_session(open_any: Opener, path: Path) -> None:
    engine = open_any(path)
    engine.close()
    with pytest.raises(EngineError, match=r"model\.onnx: this engine is closed"):
        engine.run(FEEDS)


def test_weights_next_to_the_model(open_any: Opener, tmp_path: Path) -> None:
    path, weights = tmp_path / "model.onnx", tmp_path / "model.onnx_data"
    path.write_bytes(onnx_model(SIGNATURE, NODES, {"scale": SCALE}, weights.name))
    weights.write_bytes(SCALE.tobytes())
    with open_any(path) as engine:
        np.testing.assert_array_equal(engine.run(FEEDS)["out"], SAMPLE * SCALE)


@pytest.mark.parametrize("content", [None, SCALE.tobytes()[:-1]], ids=["missing", "short"])
def test_weights_missing_or_cut_short(
    open_onnx: Opener, tmp_path: Path, content: bytes | None, capfd: pytest.CaptureFixture[str]
) -> None:
    path, weights = tmp_path / "model.onnx", tmp_path / "model.onnx_data"
    path.write_bytes(onnx_model(SIGNATURE, NODES, {"scale": SCALE}, weights.name))
    if content is not None:
        weights.write_bytes(content)
    with pytest.raises(EngineError) as caught:
        open_onnx(path)
    assert str(caught.value).startswith(f"{path}: does not load: ")
    assert str(caught.value).endswith("missing or truncated: copy the whole folder again")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            MODEL[: len(MODEL) // 2], "not an ONNX model: it is truncated", id="truncated"
        ),
        pytest.param(b"no model at all", "not an ONNX model", id="text"),
        pytest.param(UNKNOWN_OPERATOR, "does not load: ", id="unknown operator"),
    ],
)
def test_a_broken_model_is_named(
    open_onnx: Opener, path: Path, content: bytes, message: str
) -> None:
    path.write_bytes(content)
    with pytest.raises(EngineError) as caught:
        open_onnx(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "export it again" in str(caught.value)


def test_num_threads_is_checked(open_onnx: Opener, path: Path) -> None:
    with pytest.raises(EngineError, match="num_threads: got 0, expected a whole number from 1 to "):
        open_onnx(path, num_threads=0)
