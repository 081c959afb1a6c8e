"""External data is found wherever a tensor may stand in an ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sdrt_engines import EngineError, Signature, data_files_of
from support.onnx_writer import field, onnx_model, spec

SIGNATURE = Signature((spec("x", "float32", "B", 4),), (spec("y", "float32", "B", 4),))


def pair(key: bytes, value: bytes) -> bytes:
    return field(13, field(1, key) + field(2, value))


TENSOR = field(8, b"w") + pair(b"location", b"w.bin") + pair(b"offset", b"0") + field(14, 1)
INITIALIZER = field(5, TENSOR)  # of a graph
SPARSE = field(1, TENSOR)


def attribute(value: bytes) -> bytes:
    """A graph with a node with this attribute."""
    return field(1, field(5, value))


@pytest.mark.parametrize(
    "model",
    [
        field(7, INITIALIZER),
        field(7, attribute(field(5, TENSOR))),
        field(7, attribute(field(10, TENSOR))),
        field(7, attribute(field(6, INITIALIZER))),
        field(7, attribute(field(11, attribute(field(5, TENSOR))))),
        field(7, attribute(field(22, SPARSE))),
        field(7, field(15, field(2, TENSOR))),
        field(25, field(7, field(5, field(5, TENSOR)))),
        field(25, field(11, field(5, TENSOR))),
        field(20, field(1, INITIALIZER)),
        field(7, b"") + field(7, INITIALIZER),  # parsers merge the two
        field(7, field(5, field(13, field(2, b"w.bin") + field(1, b"location")))),
        field(7, field(5, field(13, field(1, b"x") + field(1, b"location") + field(2, b"w.bin")))),
    ],
)
def test_external_data_is_found(tmp_path: Path, model: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model)
    assert data_files_of(path) == {"w.bin"}


def test_a_network_names_its_data_file_once(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    weights = {"a": np.ones(3, np.float32), "b": np.ones(5, np.float32)}
    path.write_bytes(onnx_model(SIGNATURE, [("Add", ["a", "b"], ["y"])], weights, "model.data"))
    assert data_files_of(path) == {"model.data"}
    path.write_bytes(onnx_model(SIGNATURE, [("Add", ["location", "b"], ["y"])], weights))
    assert data_files_of(path) == set()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (field(7, INITIALIZER)[:-4], "not an ONNX model: it is truncated"),
        (b"\xff" * 1_000_000, "not an ONNX model: it is not a protobuf message"),
    ],
    ids=["truncated", "an endless number"],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=message):
        data_files_of(path)


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    graph = INITIALIZER
    for _ in range(2000):
        graph = attribute(field(6, graph))
    path = tmp_path / "model.onnx"
    path.write_bytes(field(7, graph))
    with pytest.raises(EngineError, match="it is nested too deeply"):
        data_files_of(path)
