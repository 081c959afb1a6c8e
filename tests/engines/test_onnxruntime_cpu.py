from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sdrt_engines import Engine, EngineError, Signature, TensorError, engine_from_onnx
from support.onnx_writer import onnx_model, spec

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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL)
    return path


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    with engine_from_onnx(path, name="unet", num_threads=1) as engine:
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
    pinned = engine.pin("sample", SAMPLE)
    np.testing.assert_array_equal(engine.run({**FEEDS, "sample": pinned})["out"], SAMPLE * SCALE)


def test_feeds_are_checked(engine: Engine) -> None:
    with pytest.raises(TensorError, match=r"unet: input 'index' is int64 \(1,\), expected int64"):
        engine.run({**FEEDS, "index": np.array([0])})


def test_threads_share_an_engine(engine: Engine) -> None:
    def run(i: int) -> bool:
        out = engine.run({**FEEDS, "sample": SAMPLE + i})["out"]
        return bool((out == (SAMPLE + i) * SCALE).all())

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(run, range(200)))


def test_a_failure_inside_the_network_is_told_once(
    engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EngineError) as caught:
        engine.run({**FEEDS, "index": np.array([0, 99])})
    message = str(caught.value)
    assert message.startswith("unet: onnxruntime failed on sample (2, 4), index (2,): ")
    assert "99" in message
    assert "ONNXRuntimeError" not in message
    assert "\n" not in message
    assert capfd.readouterr().err == ""


def test_a_closed_engine_frees_its_session(path: Path) -> None:
    engine = engine_from_onnx(path)
    engine.close()
    with pytest.raises(EngineError, match=r"model\.onnx: this engine is closed"):
        engine.run(FEEDS)


def test_weights_beside_the_model(tmp_path: Path) -> None:
    path, weights = tmp_path / "model.onnx", tmp_path / "model.onnx_data"
    path.write_bytes(onnx_model(SIGNATURE, NODES, {"scale": SCALE}, weights.name))
    weights.write_bytes(SCALE.tobytes())
    with engine_from_onnx(path) as engine:
        np.testing.assert_array_equal(engine.run(FEEDS)["out"], SAMPLE * SCALE)


@pytest.mark.parametrize("content", [None, SCALE.tobytes()[:-1]], ids=["missing", "short"])
def test_weights_missing_or_cut_short(
    tmp_path: Path, content: bytes | None, capfd: pytest.CaptureFixture[str]
) -> None:
    path, weights = tmp_path / "model.onnx", tmp_path / "model.onnx_data"
    path.write_bytes(onnx_model(SIGNATURE, NODES, {"scale": SCALE}, weights.name))
    if content is not None:
        weights.write_bytes(content)
    with pytest.raises(EngineError) as caught:
        engine_from_onnx(path)
    assert str(caught.value).startswith(f"{path}: does not load: ")
    assert str(caught.value).endswith("missing or cut short: copy the whole folder again")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(MODEL[: len(MODEL) // 2], "no ONNX model: it is cut short", id="truncated"),
        pytest.param(b"no model at all", "no ONNX model", id="text"),
        pytest.param(UNKNOWN_OPERATOR, "does not load: ", id="unknown operator"),
    ],
)
def test_a_broken_model_is_named(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(EngineError) as caught:
        engine_from_onnx(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "export it again" in str(caught.value)


def test_num_threads_is_checked(path: Path) -> None:
    with pytest.raises(EngineError, match="num_threads: got 0, expected 1 or more, or None"):
        engine_from_onnx(path, num_threads=0)


def run_python(program: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([*map(str, folders), *sys.path])
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )


def test_importing_the_package_loads_no_backend() -> None:
    program = "import sys, sdrt_engines; print('onnxruntime' in sys.modules)"
    assert run_python(program).stdout == "False\n"


def test_a_backend_that_does_not_import_is_refused_and_silent(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text(
        "import os; os.write(2, b'GPU discovery failed'); raise ImportError('no libfoo')"
    )
    program = "from sdrt_engines.onnxruntime_cpu import cpu_refusal; print(cpu_refusal())"
    done = run_python(program, tmp_path)
    assert done.stdout == ("onnxruntime cannot be imported (no libfoo): pip install onnxruntime\n")
    assert done.stderr == ""
