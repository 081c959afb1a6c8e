from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sdrt_engines import Engine, EngineError, Signature, openvino_engine_from_onnx
from sdrt_engines.openvino_cpu import openvino_refusal
from sdrt_engines.time_limit import time_limit
from support.command import run_python
from support.mapped import resident
from support.onnx_writer import Node, field, onnx_model, spec
from support.slow_networks import chain_model, chained
from support.watching import calls_of

needs_openvino = pytest.mark.skipif(
    openvino_refusal() is not None, reason=openvino_refusal() or "it opens"
)
needs_bf16 = pytest.mark.skipif(
    openvino_refusal("bf16") is not None, reason=openvino_refusal("bf16") or "it opens"
)

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((64, 64), np.float32)
SIGNATURE = Signature((spec("x", "float32", "B", "L", 64),), (spec("y", "float32", "B", "L", 64),))


OPENED = """
from pathlib import Path
from sdrt_engines import openvino_engine_from_onnx
from sdrt_engines.openvino_cpu import openvino_refusal
openvino_refusal()
def own_memory():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 2**10
before = own_memory()
engine = openvino_engine_from_onnx(path, num_threads=1)
print(own_memory() - before)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    nodes = [("MatMul", ["x", "weight"], ["y"])]
    path.write_bytes(onnx_model(SIGNATURE, nodes, {"weight": WEIGHT}))
    return path


@needs_openvino
def test_many_shapes_in_turn_are_compiled_once(path: Path) -> None:
    feeds = [RNG.standard_normal((i % 3 + 1, i + 1, 64), np.float32) for i in range(9)]
    with (
        calls_of("compile_model") as compilations,
        ThreadPoolExecutor(4) as threads,  # new ones, whose calls are watched
        threads.submit(openvino_engine_from_onnx, path).result() as engine,
    ):
        alone = [engine.run({"x": x})["y"] for x in feeds]
        together = [*threads.map(lambda x: engine.run({"x": x})["y"], feeds * 2)]
    assert len(compilations) == 1
    for x, y in zip(feeds, alone, strict=True):
        np.testing.assert_allclose(y, x @ WEIGHT, atol=1e-4)
    for y, expected in zip(together, alone * 2, strict=True):
        np.testing.assert_array_equal(y, expected)


@needs_openvino
def test_threads_with_shapes_of_their_own(path: Path) -> None:
    together = threading.Barrier(4, timeout=10)

    def run(length: int) -> bool:
        x = np.full((1, length, 64), length, np.float32)
        together.wait()
        return all(np.allclose(engine.run({"x": x})["y"], x @ WEIGHT, atol=1e-3) for _ in range(20))

    with openvino_engine_from_onnx(path) as engine, ThreadPoolExecutor(4) as threads:
        assert all(threads.map(run, [1, 2, 3, 4]))


@needs_bf16
def test_bf16_has_eight_bits_and_is_asked_for(path: Path) -> None:
    x = RNG.standard_normal((1, 32, 64), np.float32)
    true = x @ WEIGHT
    errors = {}
    for precision in ("fp32", "bf16"):
        with openvino_engine_from_onnx(path, precision=precision) as engine:
            y = engine.run({"x": x})["y"]
        assert y.dtype == np.float32
        errors[precision] = np.abs(y - true).max() / np.abs(true).max()
    assert errors["fp32"] < 1e-5
    assert 1e-4 < errors["bf16"] < 2**-7


def test_without_openvino_the_way_to_it_is_reported(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # as where it is not installed
    reason = "openvino is not installed: pip install 'sdrt[openvino]'"
    assert openvino_refusal() == reason
    with pytest.raises(EngineError, match=re.escape(reason)):
        openvino_engine_from_onnx(path)


def test_an_openvino_that_does_not_import_is_refused(tmp_path: Path) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('no libfoo')")
    program = "from sdrt_engines.openvino_cpu import openvino_refusal as r; print(r())"
    assert run_python(program, tmp_path).stdout == (
        f"openvino cannot be imported (no libfoo): rename '{tmp_path / 'openvino.py'}' if that is "
        "not the library, else pip install 'sdrt[openvino]'\n"
    )


ANOTHER_MACHINE = """
class Core:
    def get_property(self, device, name):
        if {broken}:
            raise RuntimeError("Exception from core.cpp:1:\\nno such device\\n")
        return ["FP32", "INT8"]
"""


@pytest.mark.parametrize(
    ("broken", "precision", "message"),
    [
        (False, "fp32", "None"),
        (
            False,
            "bf16",
            "this CPU does not compute in bfloat16 (AVX512-BF16 or AMX): use 'openvino'",
        ),
        (
            True,
            "fp32",
            "openvino does not open the CPU (no such device): pip install 'sdrt[openvino]'",
        ),
    ],
)
def test_a_cpu_that_does_not_fit_is_refused(
    tmp_path: Path, broken: bool, precision: str, message: str
) -> None:
    """A library that reports another machine than this one."""
    (tmp_path / "openvino.py").write_text(ANOTHER_MACHINE.format(broken=broken))
    program = (
        f"from sdrt_engines import openvino_cpu as o; print(o.openvino_refusal({precision!r}))"
    )
    assert run_python(program, tmp_path).stdout == f"{message}\n"


def test_importing_the_package_loads_no_openvino() -> None:
    program = "import sys, sdrt_engines; print('openvino' in sys.modules)"
    assert run_python(program).stdout == "False\n"


def test_num_threads_is_checked(path: Path) -> None:
    with pytest.raises(
        EngineError, match="num_threads: got -1, expected a whole number from 1 to "
    ):
        openvino_engine_from_onnx(path, num_threads=-1)


class LateError(Exception):
    pass


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[tuple[Path, Engine]]:
    """A network that takes half a second for 500 rows, and its engine."""
    path = tmp_path / "chain.onnx"
    path.write_bytes(chain_model())
    with openvino_engine_from_onnx(path, num_threads=1) as engine:
        yield path, engine


def run_chain(engine: Engine, num_rows: int) -> None:
    x = RNG.standard_normal((num_rows, 256), np.float32)
    np.testing.assert_array_equal(engine.run({"x": x})["y"], chained(x))


def run_chain_too_long(engine: Engine) -> None:
    with pytest.raises(LateError), time_limit(time.monotonic() + 0.05, LateError):
        run_chain(engine, 500)


@needs_openvino
def test_a_run_of_the_same_shapes_is_stopped_without_compiling_again(
    chain: tuple[Path, Engine],
) -> None:
    path, engine = chain
    run_chain(engine, 500)
    path.unlink()
    run_chain_too_long(engine)
    run_chain(engine, 1)


@needs_openvino
def test_a_run_of_other_shapes_is_waited_for_if_the_file_has_changed(
    chain: tuple[Path, Engine],
) -> None:
    """OpenVINO would mix the shapes of both runs in the next one."""
    path, engine = chain
    run_chain(engine, 1)
    path.write_bytes(path.read_bytes() + b" ")
    run_chain_too_long(engine)
    run_chain(engine, 1)


@needs_openvino
def test_a_network_that_failed_and_has_changed_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    signature = Signature(
        (spec("x", "float32", "B"), spec("shape", "int64", 2)), (spec("y", "float32", "h", "w"),)
    )
    path.write_bytes(onnx_model(signature, [("Reshape", ["x", "shape"], ["y"])]))
    right = {"x": np.ones(4, np.float32), "shape": np.array([2, 2])}
    wrong = {"x": np.ones(6, np.float32), "shape": np.array([5, 5])}
    with openvino_engine_from_onnx(path, name="unet") as engine:
        for _ in range(2):
            engine.run(right)
            with pytest.raises(EngineError, match="failed on x"):
                engine.run(wrong)
        path.touch()
        message = "unet: the last run failed, and the files have changed .*: open it again"
        with pytest.raises(EngineError, match=message):
            engine.run(right)


@needs_openvino
@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's figures")
def test_weights_in_half_precision_stay_in_their_file(tmp_path: Path) -> None:
    """Converted all at once, they would take 64 MiB more before the first run."""
    weight = RNG.standard_normal((4096, 4096), np.float32).astype(np.float16)
    signature = Signature((spec("x", "float32", "B", 4096),), (spec("y", "float32", "B", 4096),))
    to_float32 = field(5, field(1, b"to") + field(3, 1) + field(20, 2))
    nodes: list[Node] = [
        ("Cast", ["half"], ["weight"], to_float32),
        ("MatMul", ["x", "weight"], ["y"]),
    ]
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model(signature, nodes, {"half": weight}, "weights"))
    (tmp_path / "weights").write_bytes(weight.tobytes())
    assert float(run_python(f"path = {str(path)!r}{OPENED}").stdout) < 32
    x = RNG.standard_normal((2, 4096), np.float32)
    with openvino_engine_from_onnx(path, num_threads=1) as engine:
        y = engine.run({"x": x})["y"]
        assert resident(tmp_path / "weights") == 0  # it has its own copy now
    np.testing.assert_allclose(y, x @ weight.astype(np.float32), rtol=0, atol=1e-3)
