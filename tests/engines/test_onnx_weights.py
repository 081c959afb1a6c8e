"""Weights of ONNX files, stored as float32 or in another network's file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sdrt_engines import Array, Signature, engine_from_onnx
from sdrt_engines.onnx_weights import share_in_convolutions, share_weights, write_widened
from support.onnx_writer import Node, field, onnx_model, spec

DATA = "model.onnx_data"
SIGNATURE = Signature(
    (spec("x", "float32", "B", 32),),
    (spec("y", "float32", "B", 32),),
)
TO_FLOAT32 = field(5, field(1, b"to") + field(3, 1) + field(20, 2))  # an attribute
random = np.random.default_rng(0)
A, B = (random.standard_normal((32, 32)).astype(np.float32) for _ in range(2))
X = random.standard_normal((2, 32)).astype(np.float32)
PRODUCTS: list[Node] = [("MatMul", ["x", "a"], ["h"]), ("MatMul", ["h", "b"], ["y"])]


def write(folder: Path, nodes: list[Node], weights: dict[str, Array]) -> Path:
    folder.mkdir()
    path = folder / "model.onnx"
    path.write_bytes(onnx_model(SIGNATURE, nodes, weights, DATA))
    (folder / DATA).write_bytes(b"".join(array.tobytes() for array in weights.values()))
    return path


def output(path: Path) -> Array:
    with engine_from_onnx(path, num_threads=1) as engine:
        return engine.run({"x": X})["y"]


def test_halves_become_float32(tmp_path: Path) -> None:
    cast: Node = ("Cast", ["a.fp16"], ["a"], TO_FLOAT32)
    path = write(tmp_path / "half", [cast, *PRODUCTS], {"a.fp16": A.astype(np.float16), "b": B})
    (tmp_path / "wide").mkdir()
    wide = tmp_path / "wide/model.onnx"
    write_widened(path, wide)
    assert b"Cast" not in wide.read_bytes()
    assert (wide.parent / DATA).stat().st_size == A.nbytes + B.nbytes
    np.testing.assert_array_equal(output(wide), output(path))


def test_halves_with_another_use_stay(tmp_path: Path) -> None:
    casts: list[Node] = [("Cast", ["a.fp16"], [name], TO_FLOAT32) for name in ("a", "b")]
    path = write(tmp_path / "half", [*casts, *PRODUCTS], {"a.fp16": A.astype(np.float16)})
    (tmp_path / "wide").mkdir()
    write_widened(path, tmp_path / "wide/model.onnx")
    np.testing.assert_array_equal(output(tmp_path / "wide/model.onnx"), output(path))


def test_the_same_weights_in_another_order_are_shared(tmp_path: Path) -> None:
    one = write(tmp_path / "one", PRODUCTS, {"a": A, "b": B})
    other = write(tmp_path / "other", PRODUCTS, {"b": B, "a": A})
    expected = output(one)
    assert share_weights(one, one.parent / DATA, other, other.parent / DATA)
    assert (one.parent / DATA).samefile(other.parent / DATA)
    np.testing.assert_array_equal(output(one), expected)


def test_other_weights_are_not_shared(tmp_path: Path) -> None:
    one = write(tmp_path / "one", PRODUCTS, {"a": A, "b": B})
    other = write(tmp_path / "other", PRODUCTS, {"a": A, "b": B + 1})
    before = one.read_bytes()
    assert not share_weights(one, one.parent / DATA, other, other.parent / DATA)
    assert one.read_bytes() == before
    assert not (one.parent / DATA).samefile(other.parent / DATA)


def test_nothing_is_shared_on_a_disk_without_second_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    one, other = (write(tmp_path / name, PRODUCTS, {"a": A, "b": B}) for name in ("one", "other"))
    assert not share_weights(one, one.parent / DATA, other, other.parent / DATA)
    assert sorted(path.name for path in one.parent.iterdir()) == ["model.onnx", DATA]


def test_weights_with_four_axes_belong_to_convolutions(tmp_path: Path) -> None:
    kernel = np.zeros((8, 8, 2, 4), np.float32)
    path = write(tmp_path / "net", PRODUCTS, {"a": A, "b": B, "kernel": kernel})
    assert share_in_convolutions(path) == kernel.nbytes / (A.nbytes + B.nbytes + kernel.nbytes)
