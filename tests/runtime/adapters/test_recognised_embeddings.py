"""Textual inversions, by their keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdrt.adapters.found import EmbeddingFile, FamilyName
from sdrt.adapters.recognition import recognised
from sdrt.adapters.safetensors import SafetensorsFile
from support.weights_files import Tensor, write_weights

SD1: FamilyName = "stable-diffusion-1"
SD2: FamilyName = "stable-diffusion-2"
SDXL: FamilyName = "stable-diffusion-xl"


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"emb_params": (4, 768)}, EmbeddingFile(SD1, ("emb_params",), (768,), 4, None)),
        ({"emb_params": (2, 1024)}, EmbeddingFile(SD2, ("emb_params",), (1024,), 2, None)),
        ({"emb_params": (2, 32)}, EmbeddingFile(None, ("emb_params",), (32,), 2, None)),
        (
            {"clip_g": (3, 1280), "clip_l": (3, 768)},
            EmbeddingFile(SDXL, ("clip_l", "clip_g"), (768, 1280), 3, None),
        ),
        (
            {"text_encoders_0": (2, 768), "text_encoders_1": (2, 1280)},
            EmbeddingFile(SDXL, ("text_encoders_0", "text_encoders_1"), (768, 1280), 2, None),
        ),
        ({"clip_g": (3, 1280)}, EmbeddingFile(SDXL, ("clip_g",), (1280,), 3, None)),
        (
            {"string_to_param.*": (1, 768)},
            EmbeddingFile(SD1, ("string_to_param.*",), (768,), 1, None),
        ),
        ({"*": (1, 768)}, EmbeddingFile(SD1, ("*",), (768,), 1, None)),
        ({"<cat-toy>": (768,)}, EmbeddingFile(SD1, ("<cat-toy>",), (768,), 1, "<cat-toy>")),
        ({"my.word v1": (5, 768)}, EmbeddingFile(SD1, ("my.word v1",), (768,), 5, "my.word v1")),
    ],
)
def test_an_embedding(tensors: dict[str, Tensor], expected: EmbeddingFile, tmp_path: Path) -> None:
    path = write_weights(tmp_path / "bad.safetensors", tensors)
    assert recognised(SafetensorsFile.open(path)) == expected
