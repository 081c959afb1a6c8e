"""The bundle of a single file generates the images of the folder that the file was made from."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from sdrt import Pipeline
from sdrt.bundle.folder import Bundle
from sdrt.command_line.main import main
from support.original_layout import Weights, save

pytestmark = [pytest.mark.export, pytest.mark.needs("open_clip")]

REQUEST: dict[str, Any] = {
    "prompt": "a photo of a cat",
    "width": 64,
    "height": 64,
    "num_inference_steps": 3,
}


def test_the_images_of_a_file(
    narrow_folder: Callable[[str], Path],
    original_weights: Callable[[str], Weights],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """diffusers reads the folder, with CLIP's tokenizer: its own knows single letters only."""
    file = save(original_weights("sd1"), tmp_path / "model.safetensors")
    bundle = tmp_path / "bundle"
    assert main(["export", str(file), "-o", str(bundle)]) == 0
    assert "note" not in capsys.readouterr().err
    assert Bundle.open(bundle).manifest.source == str(file)
    with Pipeline.open(bundle, target="cpu", num_threads=1) as pipe:
        (image,) = pipe(seed=7, **REQUEST).images

    folder = shutil.copytree(narrow_folder("sd1"), tmp_path / "folder")
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(bundle / "tokenizer", folder / "tokenizer")
    theirs = StableDiffusionPipeline.from_pretrained(folder).to(torch.float32)
    theirs.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(7)
    (expected,) = theirs(generator=generator, output_type="np", **REQUEST).images
    difference = np.abs(np.asarray(image) / 255 - expected)
    assert difference.max() < 1.01 / 255
    assert expected.std() > 0.01
