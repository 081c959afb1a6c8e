from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from sdrt_export.precision.probing import largest_of
from support.half_graphs import FLOAT, node, write_network

pytestmark = pytest.mark.build

WIDTH, DEPTH = 1024, 16


def test_the_largest_size_is_that_over_all_cases(tmp_path: Path) -> None:
    mask = np.full((4,), np.finfo(np.float32).min)
    nodes = [node("Mul", "x twice", "a"), node("Add", "a mask", "b"), node("Relu", "b", "y")]
    weights = {"twice": np.array([2], np.float32), "mask": mask}
    path = write_network(tmp_path, nodes, weights)
    model = onnx.load(path, load_external_data=False)
    cases = [{"x": np.array([[1, -5, 3, 0]], np.float32)}, {"x": np.zeros((2, 4), np.float32)}]
    found = largest_of(model, tmp_path, ["a", "y", "b"], cases)
    assert found == {"a": 10, "y": 0, "b": pytest.approx(3.4e38, rel=0.01)}


# In a process of its own: memory that Python has freed hides what is taken.
PROGRAM = """
import re, sys
from pathlib import Path
import numpy as np, onnx, onnxruntime
from sdrt_export.precision.check import write_half
from sdrt_export.precision.policy import Rules
from sdrt_export.precision.probing import tensors_of

def memory():
    text = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\\s*(\\d+)", text)[1])

path, width = Path(sys.argv[1]), int(sys.argv[2])
cases = 2 * [{"x": np.ones((1, width), np.float32)}]
model = onnx.load(path, load_external_data=False)
before, most = memory(), 0
for outputs in tensors_of(model, path.parent, ["y"], cases):
    most = max(most, memory() - before)
write_half(path, Path(sys.argv[3]), "fp16", Rules(), cases)
print(max(most, memory() - before))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("stored", [np.float32, np.float16])
def test_a_network_is_run_without_its_weights_in_memory(
    tmp_path: Path, stored: type[np.floating]
) -> None:
    tensors = ["x", *(f"a{i}" for i in range(1, DEPTH)), "y"]
    nodes = [node("MatMul", f"{tensors[i]} w{i}", tensors[i + 1]) for i in range(DEPTH)]
    random, scale = np.random.default_rng(0), WIDTH**-0.5
    weights = {
        f"w{i}": (scale * random.standard_normal((WIDTH, WIDTH))).astype(stored)
        for i in range(DEPTH)  # all different: equal ones would share memory
    }
    if stored == np.float16:
        nodes = [node("Cast", f"{name}.stored", name, to=FLOAT) for name in weights] + nodes
        weights = {f"{name}.stored": array for name, array in weights.items()}
    path = write_network(tmp_path / "old", nodes, weights, ("batch", WIDTH))
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, path, str(WIDTH), tmp_path],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    size = 4 * WIDTH * WIDTH  # of one weight in float32
    assert int(result.stdout) < 6 * size < DEPTH * size / 2
