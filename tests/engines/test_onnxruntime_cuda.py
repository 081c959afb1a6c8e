"""The `cuda` backend, without a GPU if possible; its runs are in test_onnx_engines."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdrt_engines import (
    DeviceArray,
    EngineError,
    Signature,
    cuda_engine_from_onnx,
    engine_from_onnx,
)
from sdrt_engines.nvidia_driver import cuda_version, driver_refusal, gpus
from sdrt_engines.onnxruntime_cuda import (
    NUM_SHAPES,
    BoundEngine,
    cuda_refusal,
    package_refusal,
    provider_options_for,
)
from support.command import run_python
from support.for_cuda import FOR_CUDA
from support.onnx_writer import onnx_model, spec

SIGNATURE = Signature(
    (spec("x", "float32", "B", 4), spec("t", "float32", "B", 4)), (spec("y", "float32", "B", 4),)
)
PINS = [(rows, i) for rows in range(1, NUM_SHAPES + 2) for i in (10, 20)]
X, T = np.arange(8, dtype=np.float32).reshape(2, 4), np.full((2, 4), 3, np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model(SIGNATURE, [("Mul", ["x", "t"], ["y"])]))
    return path


def bound_to_cpu(path: Path) -> BoundEngine:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return BoundEngine(SIGNATURE, "unet", session, "cpu")


def test_more_shapes_than_are_kept(path: Path) -> None:
    with bound_to_cpu(path) as engine:
        for rows in [*range(1, NUM_SHAPES + 3)] * 2:
            x = np.full((rows, 4), rows, np.float32)
            assert (engine.run({"x": x, "t": x})["y"] == rows * rows).all()


@FOR_CUDA
def test_a_pinned_feed_serves_between_others(path: Path) -> None:
    with bound_to_cpu(path) as engine:
        pinned = engine.pin("t", T)
        for t in (pinned, T + 1, pinned):
            factor = 3 if t is pinned else 4
            np.testing.assert_array_equal(engine.run({"x": X, "t": t})["y"], X * factor)


@FOR_CUDA
def test_pinned_feeds_take_turns_at_several_shapes(path: Path) -> None:
    with bound_to_cpu(path) as engine:
        pins = [engine.pin("t", np.full((rows, 4), rows + i, np.float32)) for rows, i in PINS]
        for _ in range(2):
            for (rows, i), pinned in zip(PINS, pins, strict=True):
                for _ in range(2):  # the second time it is already there
                    got = engine.run({"x": np.ones((rows, 4), np.float32), "t": pinned})["y"]
                    assert (got == rows + i).all()


class LostSession:
    """A session whose graphs can no longer be released."""

    def __init__(self, session: Any) -> None:
        self.session, self.released = session, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.session.run_with_iobinding(binding)  # the CPU knows no graphs

    def release_captured_graph(self, graph: int) -> None:
        self.released += 1
        raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")


@FOR_CUDA
def test_an_engine_of_a_lost_gpu_closes(path: Path) -> None:
    """Each of its graphs is given back, and its session is free."""
    with bound_to_cpu(path) as usable:
        session = LostSession(usable._session)
        engine = BoundEngine(SIGNATURE, "unet", session, "cpu", cuda_graph=True)
        for rows in (1, 2):
            engine.run({"x": X[:rows], "t": T[:rows]})
        engine.close()
        assert session.released == 2
        assert engine._session is None


# Without tensor cores a step of Stable Diffusion 1.5 takes longer; TF32 is not float32.
@pytest.mark.parametrize(("half", "tf32"), [(False, "0"), (True, "1")])
def test_tf32_is_for_half_precision(half: bool, tf32: str) -> None:
    assert provider_options_for(half=half, cuda_graph=False)["use_tf32"] == tf32


# --- reasons not to open


def installed(tmp_path: Path, *packages: str, providers: tuple[str, ...] = ()) -> str:
    """The reason if an onnxruntime with these providers, from these packages, is installed."""
    (tmp_path / "onnxruntime.py").write_text(
        f"get_available_providers = lambda: {providers}\nclass InferenceSession: ..."
    )
    for package in packages:
        folder = tmp_path / f"{package.replace('-', '_')}-9.0.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {package}\nVersion: 9.0.0\n")
    program = "from sdrt_engines.onnxruntime_cuda import package_refusal; print(package_refusal())"
    return run_python(program, tmp_path).stdout


def test_the_build_for_the_cpu_is_reported(tmp_path: Path) -> None:
    assert installed(tmp_path, providers=("CPUExecutionProvider",)) == (
        "the installed onnxruntime does not support CUDA: pip install 'sdrt[cuda]', and if "
        "that is not enough pip install --force-reinstall --no-deps onnxruntime-gpu\n"
    )


def test_both_packages_are_reported_with_the_way_out(tmp_path: Path) -> None:
    answer = installed(tmp_path, "onnxruntime-gpu", providers=("CPUExecutionProvider",))
    assert answer == (
        "onnxruntime and onnxruntime-gpu are both installed and write the same files; those "
        "of onnxruntime, without CUDA, came last: "
        "pip install --force-reinstall --no-deps onnxruntime-gpu\n"
    )


def test_the_build_for_cuda_is_not_refused(tmp_path: Path) -> None:
    providers = ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert installed(tmp_path, "onnxruntime-gpu", providers=providers) == "None\n"


def test_without_onnxruntime_the_way_to_it_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    reason = package_refusal()
    assert reason is not None
    assert reason.startswith("onnxruntime cannot be imported")
    assert reason.endswith("pip install onnxruntime, or 'sdrt[cuda]' for CUDA")


@pytest.mark.skipif(cuda_version() > (0, 0), reason="there is a driver")
def test_without_a_driver_it_says_so(path: Path) -> None:
    reason = cuda_refusal()
    assert reason is not None
    assert re.fullmatch(
        r"there is no NVIDIA driver on this machine \(\S+\): "
        r"install NVIDIA's driver 580 or newer",
        reason,
    )
    assert gpus() == ()
    with pytest.raises(EngineError, match="there is no NVIDIA driver on this machine"):
        cuda_engine_from_onnx(path)


# --- on a GPU


@pytest.mark.gpu
def test_the_driver_reports_its_gpus() -> None:
    assert driver_refusal() is None
    assert cuda_version() >= (13, 0)
    for gpu in gpus():
        assert re.fullmatch(r"sm\d+", gpu.architecture)
        assert gpu.name
        assert gpu.memory > 2**30


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_cuda_gives_what_the_cpu_gives(path: Path, cuda_graph: bool) -> None:
    with engine_from_onnx(path) as cpu, cuda_engine_from_onnx(path, cuda_graph=cuda_graph) as cuda:
        pinned = cuda.pin("t", T)
        for rows in (1, 2, 1, 2):
            feeds = {"x": X[:rows] + rows, "t": T[:rows]}
            for _ in range(3):  # captured at the first, replayed after
                np.testing.assert_allclose(cuda.run(feeds)["y"], cpu.run(feeds)["y"], rtol=1e-6)
        np.testing.assert_allclose(cuda.run({"x": X, "t": pinned})["y"], X * T, rtol=1e-6)
        y = cuda.run_on_device({"x": X, "t": T})["y"]
        for _ in range(3):
            np.testing.assert_allclose(cuda.run({"x": X, "t": y})["y"], X * X * T, rtol=1e-6)
        assert isinstance(y, DeviceArray)
        np.testing.assert_allclose(y.numpy(), X * T, rtol=1e-6)
