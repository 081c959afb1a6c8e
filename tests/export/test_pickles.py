"""The conversion of pickles that messages name."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from sdrt.adapters.found import EmbeddingFile, VaeFile
from sdrt.adapters.other_formats import conversion_of_pickle
from sdrt.adapters.recognition import recognised
from sdrt.adapters.safetensors import SafetensorsFile
from support.model_layouts import original_vae_shapes

pytestmark = pytest.mark.export

VAE = {key: torch.zeros(2, 2, 1, 1) for key in original_vae_shapes()}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (VAE, VaeFile("ldm", "", 2)),
        ({"state_dict": VAE, "global_step": 7}, VaeFile("ldm", "", 2)),
        (
            {"string_to_param": {"*": torch.nn.Parameter(torch.ones(3, 768))}, "name": "bad"},
            EmbeddingFile("stable-diffusion-1", ("*",), (768,), 3, None),
        ),
        (
            {"<cat>": torch.ones(4, 768)[1]},  # a part of a larger tensor
            EmbeddingFile("stable-diffusion-1", ("<cat>",), (768,), 1, "<cat>"),
        ),
    ],
    ids=["plain", "state_dict", "string_to_param", "diffusers"],
)
def test_it_keeps_the_tensors(content: dict[str, Any], expected: object, tmp_path: Path) -> None:
    path = tmp_path / "it's mine.pt"
    torch.save(content, path)
    _, _, program = shlex.split(conversion_of_pickle(path))
    exec(program, {})
    assert recognised(SafetensorsFile.open(path.with_suffix(".safetensors"))) == expected
