"""The numpy reader of safetensors files."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdrt.adapters.number_types import READABLE
from sdrt.adapters.safetensors import SafetensorsFile, TensorInfo
from sdrt.errors import FileError
from support.weights_files import header_bytes, write_weights

VALUES = [0.0, -0.0, 1.0, -1.5, 0.15625, 448.0, 2.0**-9]
ONE: dict[str, Any] = {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.safetensors"


def test_it_names_the_tensors_without_reading_them(path: Path) -> None:
    tensors = {"a.weight": (2, 3), "mark": (0,), "scalar": ()}
    file = SafetensorsFile.open(write_weights(path, tensors, metadata={"format": "pt", "x": ""}))
    begin = file.data_begin
    assert file.metadata == {"format": "pt", "x": ""}
    assert file.tensors == {
        "a.weight": TensorInfo("F16", (2, 3), begin, begin + 12),
        "mark": TensorInfo("F16", (0,), begin + 12, begin + 12),
        "scalar": TensorInfo("F16", (), begin + 12, begin + 14),
    }
    assert file.read("mark").shape == (0,)
    assert file.read("scalar") == 0
    assert pickle.loads(pickle.dumps(file)) == file  # exports send it to another process


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_floats_are_read_as_float32(dtype: str, path: Path) -> None:
    values = np.array(VALUES, dtype)
    read = SafetensorsFile.open(write_weights(path, {"w": (3,), "x": values})).read("x")
    assert read.dtype == np.float32
    assert read.flags.writeable
    assert read.tobytes() == values.astype(np.float32).tobytes()


@pytest.mark.parametrize("dtype", ["u1", "i4", "i8"])
def test_integers_are_read_as_they_are(dtype: str, path: Path) -> None:
    values = np.arange(6, dtype=dtype).reshape(2, 3)
    read = SafetensorsFile.open(write_weights(path, {"x": values})).read("x")
    assert read.dtype == values.dtype
    np.testing.assert_array_equal(read, values)


def test_a_float64_beyond_float32_is_infinite(path: Path) -> None:
    file = SafetensorsFile.open(write_weights(path, {"x": np.array([1e300, -1e300])}))
    assert file.read("x").tolist() == [np.inf, -np.inf]


def test_every_bfloat16_is_read_exactly(path: Path) -> None:
    codes = np.arange(1 << 16, dtype=np.uint16)
    read = raw(path, "BF16", codes.tobytes(), [1 << 16])
    assert (read.view(np.uint32) >> 16).astype(np.uint16).tobytes() == codes.tobytes()
    assert not (read.view(np.uint32) & 0xFFFF).any()


@pytest.mark.parametrize(
    ("dtype", "numbers"),
    [  # S EEEE MMM and S EEEEE MM: table 1 of Micikevicius et al. 2022
        (
            "F8_E4M3",
            {0x00: 0, 0x01: 2**-9, 0x07: 7 * 2**-9, 0x08: 2**-6, 0x38: 1, 0x7E: 448, 0xBC: -1.5},
        ),
        (
            "F8_E5M2",
            {0x00: 0, 0x01: 2**-16, 0x04: 2**-14, 0x3C: 1, 0x7B: 57344, 0x7C: np.inf, 0xBE: -1.5},
        ),
    ],
)
def test_float8(dtype: str, numbers: dict[int, float], path: Path) -> None:
    read = raw(path, dtype, bytes(range(256)), [256])
    assert {code: read[code] for code in numbers} == numbers
    assert np.isnan(read[[0x7F, 0xFF]]).all()
    assert np.isnan(read).sum() == (2 if dtype == "F8_E4M3" else 6)


def raw(path: Path, dtype: str, data: bytes, shape: list[int]) -> Any:
    header = {"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}
    path.write_bytes(header_bytes(header) + data)
    return SafetensorsFile.open(path).read("x")


# --- files that are refused when they are opened


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        (b"{]}", 0, "not valid JSON"),
        (b'{"a":1,"a":2}', 0, "the key 'a' is there twice"),
        (b'{"a":' + b"[" * 99999, 0, "not valid JSON"),
        ({"a": 7}, 0, "a: got 7, expected an object"),
        ({"__metadata__": []}, 0, None),  # nothing in it
        ({"__metadata__": [1]}, 0, "__metadata__: got [1], expected an object"),
        ({"__metadata__": {"x": 1}}, 0, "x: got 1, expected a string"),
        ({"a": ONE | {"dtype": "F12"}}, 4, "a.dtype: got 'F12', expected one of BOOL, U8"),
        ({"a": ONE | {"shape": [-2]}}, 4, "a.shape[0]: got -2, expected a size"),
        ({"a": ONE | {"shape": [True]}}, 4, "a.shape[0]: got true, expected a size"),
        ({"a": ONE | {"shape": [2.0]}}, 4, "a.shape[0]: got 2.0, expected a size"),
        ({"a": ONE | {"shape": [1] * 33}}, 4, "a.shape: got 33 dimensions, expected at most 32"),
        ({"a": ONE | {"shape": [3]}}, 4, "a.data_offsets: got [0, 4], expected 6 bytes"),
        ({"a": ONE | {"shape": [10**30]}}, 4, "expected 2000000000000000000000000000000 bytes"),
        ({"a": ONE | {"data_offsets": [4, 0]}}, 4, "a.data_offsets: got [4, 0], expected 4 bytes"),
        ({"a": ONE | {"data_offsets": [0, 4, 8]}}, 4, "a.data_offsets: got [0, 4, 8]"),
        ({"a": {"dtype": "F16", "shape": [2]}}, 4, "a.data_offsets: missing"),
        ({"a": ONE}, 3, "got 72 bytes, expected 73"),
        ({"a": ONE}, 5, "got 74 bytes, expected 73"),
        ({"a": ONE, "b": ONE}, 4, "'b' overlaps the tensor before it (byte"),
        ({"a": ONE, "b": ONE | {"data_offsets": [6, 10]}}, 10, "'b' leaves a hole before it"),
        ({"a": ONE | {"data_offsets": [2, 6]}}, 6, "'a' leaves a hole before it"),
    ],
)
def test_a_wrong_header_is_refused(
    header: object, data: int, reason: str | None, path: Path
) -> None:
    path.write_bytes(header_bytes(header) + bytes(data))
    if reason is None:
        assert SafetensorsFile.open(path).tensors == {}
        return
    message = refusal(path)
    assert message.startswith(f"{path}: not a complete safetensors file: ")
    assert reason in message
    assert message.endswith(": download or save it again")


def test_a_file_that_ends_in_its_header_is_refused(path: Path) -> None:
    start = header_bytes({"a": ONE})
    path.write_bytes(start[:40])
    assert f"it ends within its header, after 40 bytes of {len(start)}: " in refusal(path)


def refusal(path: Path) -> str:
    with pytest.raises(FileError) as caught:
        SafetensorsFile.open(path)
    return str(caught.value)


# --- paths without a file


def test_no_file_is_refused(path: Path) -> None:
    assert refusal(path) == f"{path}: cannot be read: No such file or directory"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_fifo_is_refused(path: Path) -> None:
    os.mkfifo(path)
    assert refusal(path) == f"{path}: cannot be read: Is a FIFO"


def test_a_link_to_a_file_is_followed(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(write_weights(path, {"a": (2,)}))
    assert SafetensorsFile.open(link).read("a").tolist() == [0, 0]


# --- what is refused when a tensor is read


def test_a_tensor_that_is_not_there(path: Path) -> None:
    file = SafetensorsFile.open(write_weights(path, {"a": (2,)}))
    with pytest.raises(FileError, match=r"weights\.safetensors' has no tensor 'b'$"):
        file.read("b")


def test_a_type_that_is_not_read(path: Path) -> None:
    header = {"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}
    path.write_bytes(header_bytes(header) + bytes(2))
    message = f"'a' is of type F4, expected one of {', '.join(READABLE)}: save the file in one"
    with pytest.raises(FileError, match=message):
        SafetensorsFile.open(path).read("a")


def test_a_file_that_was_replaced(path: Path, tmp_path: Path) -> None:
    file = SafetensorsFile.open(write_weights(path, {"a": (2,)}))
    write_weights(tmp_path / "new", {"a": (2,)}).replace(path)
    with pytest.raises(FileError, match="has changed since it was opened: try again"):
        file.read("a")
