"""Embeddings are read from every format of their files; what is broken is refused."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from sdrt.adapters.embeddings import embedding_from_file
from sdrt.errors import FileError
from support.weights_files import Tensor, write_weights

RANDOM = np.random.default_rng(0)
FIRST, SECOND = (RANDOM.standard_normal((3, width), np.float32) for width in (8, 12))


@pytest.mark.parametrize(
    ("tensors", "token"),
    [
        ({"emb_params": FIRST}, "my bad v1.5"),
        ({"string_to_param.*": FIRST}, "my bad v1.5"),
        ({"*": FIRST}, "my bad v1.5"),
        ({"<cat-toy>": FIRST}, "<cat-toy>"),  # diffusers' files name the token
        ({"clip_g": SECOND, "clip_l": FIRST}, "my bad v1.5"),
        ({"text_encoders_0": FIRST, "text_encoders_1": SECOND}, "my bad v1.5"),
    ],
)
def test_every_format(tensors: dict[str, Tensor], token: str, tmp_path: Path) -> None:
    path = write_weights(tmp_path / "my bad v1.5.safetensors", tensors)
    embedding = embedding_from_file(path)
    assert embedding.token == token
    assert embedding.tokens == (token, f"{token}_1", f"{token}_2")
    for values, expected in zip(embedding.vectors, (FIRST, SECOND), strict=False):
        np.testing.assert_array_equal(values, expected)
    assert len(embedding.vectors) == len(tensors)
    assert embedding.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert embedding_from_file(path, "other").token == "other"


def test_a_single_vector_and_halves(tmp_path: Path) -> None:
    values = FIRST[0].astype(np.float16)
    embedding = embedding_from_file(write_weights(tmp_path / "a.safetensors", {"<a>": values}))
    assert embedding.tokens == ("<a>",)
    np.testing.assert_array_equal(embedding.vectors[0], values[None].astype(np.float32))
    assert embedding.vectors[0].dtype == np.float32


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"emb_params": np.array([[1, np.nan]], np.float32)}, "numbers that are NaN or infinite"),
        ({"emb_params": np.array([[1, np.inf]], np.float32)}, "numbers that are NaN or infinite"),
        ({"emb_params": np.zeros((0, 8), np.float32)}, "is empty, expected vectors"),
        ({"emb_params": np.zeros((2, 8), np.int32)}, "has int32 numbers, expected floats"),
        ({"clip_l": FIRST, "clip_g": SECOND[:2]}, "has 3 and 2 vectors for the text encoders"),
        (
            {"lora_unet_x.lora_up.weight": (4, 2), "lora_unet_x.lora_down.weight": (2, 4)},
            "expected an embedding",
        ),
        ({"a": (4, 4), "b": (4, 4)}, "not a kind of file that sdrt knows"),
    ],
)
def test_what_is_no_embedding_is_refused(
    tensors: dict[str, Tensor], reason: str, tmp_path: Path
) -> None:
    path = write_weights(tmp_path / "bad.safetensors", tensors)
    with pytest.raises(FileError) as caught:
        embedding_from_file(path)
    assert str(caught.value).startswith((f"'{path}' ", f"{path}: "))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    path = tmp_path / "bad.pt"
    path.write_bytes(pickle.dumps({"string_to_param": {"*": [1.0]}}))
    with pytest.raises(FileError, match=r"is a pickle, which runs code.*save it as safetensors"):
        embedding_from_file(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "bad.safetensors", {"emb_params": FIRST})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(FileError, match="not a complete safetensors file"):
        embedding_from_file(path)
