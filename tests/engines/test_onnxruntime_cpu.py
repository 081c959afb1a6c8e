from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sdrt_engines import EngineError, Signature, engine_from_onnx, resident_memory
from support.command import run_python
from support.onnx_writer import onnx_model, spec


def test_an_index_outside_of_a_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    signature = Signature((spec("index", "int64", "B"),), (spec("picked", "float32", "B"),))
    nodes = [("Gather", ["scale", "index"], ["picked"])]
    path.write_bytes(onnx_model(signature, nodes, {"scale": np.ones(4, np.float32)}))
    with engine_from_onnx(path) as engine, pytest.raises(EngineError, match="99"):
        engine.run({"index": np.array([0, 99])})


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's figures")
def test_a_second_run_takes_no_further_memory(tmp_path: Path) -> None:
    """With its memory pattern, ONNX Runtime keeps another block for the second run of a shape."""
    path, size = tmp_path / "model.onnx", 2**22  # numbers: 16 MiB
    signature = Signature((spec("x", "float32", "N"),), (spec("out", "float32", 1),))
    nodes = [
        ("Pad", ["x", "pads"], ["wide"]),
        ("Exp", ["wide"], ["powers"]),
        ("Mul", ["wide", "powers"], ["product"]),
        ("ReduceMax", ["product"], ["out"]),
    ]
    path.write_bytes(onnx_model(signature, nodes, {"pads": np.array([1, 1])}))
    with engine_from_onnx(path, num_threads=1) as engine:
        in_use = []
        for _ in range(2):
            engine.run({"x": np.zeros(size, np.float32)})
            in_use.append(resident_memory() or 0)
    assert in_use[1] - in_use[0] < 4 * size


def test_importing_the_package_loads_no_backend() -> None:
    program = "import sys, sdrt_engines; print('onnxruntime' in sys.modules)"
    assert run_python(program).stdout == "False\n"


def test_a_backend_that_does_not_import_is_refused_and_silent(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text(
        "import os; os.write(2, b'GPU discovery failed'); raise ImportError('no libfoo')"
    )
    program = "from sdrt_engines.onnxruntime_cpu import cpu_refusal; print(cpu_refusal())"
    done = run_python(program, tmp_path)
    assert done.stdout == (
        f"onnxruntime cannot be imported (no libfoo): rename '{tmp_path / 'onnxruntime.py'}' if "
        "that is not the library, else pip install onnxruntime\n"
    )
    assert done.stderr == ""


def test_an_interrupt_during_its_import_is_no_missing_package(tmp_path: Path) -> None:
    """Extensions turn it into an ImportError (pybind11: "initialization failed")."""
    (tmp_path / "onnxruntime.py").write_text(
        "raise ImportError('initialization failed') from KeyboardInterrupt()"
    )
    done = run_python("import sdrt_engines.onnxruntime_cpu as c; c.cpu_refusal()", tmp_path)
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
