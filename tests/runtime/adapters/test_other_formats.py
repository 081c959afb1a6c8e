"""Files that are taken for safetensors: what they are, and the way out."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from sdrt.adapters.safetensors import SafetensorsFile
from sdrt.errors import FileError
from support.weights_files import write_weights

ZIP = b"PK\x03\x04\x00\x00\x08\x08"
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03"


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        SafetensorsFile.open(path)
    return str(caught.value).removeprefix(f"'{path}' ")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.ckpt", ZIP),
        ("embedding.pt", OLD_TORCH),
        ("renamed.safetensors", ZIP),
        ("renamed.safetensors", OLD_TORCH),
        ("empty.bin", b""),
        ("it's mine.pth", ZIP),
    ],
)
def test_a_pickle_is_refused_with_a_conversion(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    message = refusal(path, content)
    before, _, command = message.partition(": save it as safetensors: ")
    assert before == "is a pickle, which runs code when it is loaded, so sdrt refuses it"
    python, option, program = shlex.split(command)
    assert (python, option) == ("python", "-c")
    assert "weights_only=True" in program
    assert repr(str(path)) in program
    assert repr(str(path.with_suffix(".safetensors"))) in program


@pytest.mark.parametrize(
    ("content", "kind", "remedy"),
    [
        (b"GGUF\x03\x00\x00\x00", "a GGUF file", "give the safetensors file of it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page", "needs a login: download the file again"),
        (b'{"_class_name": "UNet2DConditionModel"}', "a JSON file", "give the weights themselves"),
        (b"\x89PNG\r\n\x1a\n", "an image", "embeddings in images are not read"),
    ],
)
def test_other_files_are_named(content: bytes, kind: str, remedy: str, tmp_path: Path) -> None:
    message = refusal(tmp_path / "model.safetensors", content)
    assert message.startswith(f"is {kind}, expected safetensors: ")
    assert remedy in message


@pytest.mark.parametrize(
    ("content", "start"),
    [
        (b"", "b''"),
        (b"\x00" * 8, r"b'\x00\x00"),
        ((1 << 40).to_bytes(8, "little") + b"{", r"b'\x00\x00\x00\x00\x00\x01\x00\x00{'"),
        ((16).to_bytes(8, "little") + b"[1, 2]", r"b'\x10\x00\x00\x00\x00\x00\x00\x00[1, '"),
    ],
)
def test_anything_else_is_refused(content: bytes, start: str, tmp_path: Path) -> None:
    message = refusal(tmp_path / "model.safetensors", content)
    assert message.startswith(f"is not a safetensors file: it begins with {start}")
    assert message.endswith("expected the length of a JSON header: download or save it again")


def test_a_length_that_looks_like_a_pickle(tmp_path: Path) -> None:
    """A header of 640 bytes begins as pickles do."""
    path = tmp_path / "model.safetensors"
    write_weights(path, {"a": ()}, metadata={"x": ""})
    length = 640 - int.from_bytes(path.read_bytes()[:8], "little")
    write_weights(path, {"a": ()}, metadata={"x": "y" * length})
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert list(SafetensorsFile.open(path).tensors) == ["a"]
