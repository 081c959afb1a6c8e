from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from sdrt_export.precision.check import write_half
from sdrt_export.precision.policy import Rules
from sdrt_export.precision.probing import largest_of, tensors_of
from support.half_graphs import FLOAT, node, write_network

pytestmark = pytest.mark.build

STATUS = Path("/proc/self/status")
WIDTH, DEPTH = 1024, 32
CASE = {"x": np.ones((1, WIDTH), np.float32)}


def test_the_largest_size_is_that_over_all_cases(tmp_path: Path) -> None:
    mask = np.full((4,), np.finfo(np.float32).min)
    nodes = [node("Mul", "x twice", "a"), node("Add", "a mask", "b"), node("Relu", "b", "y")]
    weights = {"twice": np.array([2], np.float32), "mask": mask}
    path = write_network(tmp_path, nodes, weights)
    model = onnx.load(path, load_external_data=False)
    cases = [{"x": np.array([[1, -5, 3, 0]], np.float32)}, {"x": np.zeros((2, 4), np.float32)}]
    found = largest_of(model, tmp_path, ["a", "y", "b"], cases)
    assert found == {"a": 10, "y": 0, "b": pytest.approx(3.4e38, rel=0.01)}


def memory() -> int:
    """Bytes of this process that are not a file's."""
    found = re.search(r"^RssAnon:\s*(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc")
@pytest.mark.parametrize("stored", [np.float32, np.float16])
def test_a_network_is_run_without_its_weights_in_memory(
    tmp_path: Path, stored: type[np.floating]
) -> None:
    tensors = ["x", *(f"a{i}" for i in range(1, DEPTH)), "y"]
    nodes = [node("MatMul", f"{tensors[i]} w{i}", tensors[i + 1]) for i in range(DEPTH)]
    weights = {f"w{i}": np.eye(WIDTH, dtype=stored) for i in range(DEPTH)}
    if stored == np.float16:
        nodes = [node("Cast", f"{name}.stored", name, to=FLOAT) for name in weights] + nodes
        weights = {f"{name}.stored": array for name, array in weights.items()}
    path = write_network(tmp_path / "old", nodes, weights, ("batch", WIDTH))
    model = onnx.load(path, load_external_data=False)
    size = 4 * WIDTH * WIDTH  # of one weight in float32
    before = memory()
    running = tensors_of(model, path.parent, ["y"], [CASE, CASE])
    for _ in range(2):
        assert next(running)["y"].all()
        assert memory() - before < 8 * size < DEPTH * size / 2
    write_half(path, tmp_path, "fp16", Rules(), [CASE])
    assert memory() - before < 8 * size
