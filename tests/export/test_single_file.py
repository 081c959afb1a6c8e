"""A single file and its folder give the same bundle."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sdrt import Pipeline
from sdrt.bundle.folder import Bundle
from sdrt.command_line.main import main
from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.exporting import export_checkpoint
from support.original_layout import Weights, save

pytestmark = [pytest.mark.export, pytest.mark.needs("open_clip")]


def test_the_same_networks_and_images(
    narrow_folder: Callable[[str], Path],
    original_weights: Callable[[str], Weights],
    tmp_path: Path,
) -> None:
    """The folder gets CLIP's tokenizer, too: its own knows single letters only."""
    file = save(original_weights("sd1"), tmp_path / "model.safetensors")
    folder = shutil.copytree(narrow_folder("sd1"), tmp_path / "folder")
    shutil.rmtree(folder / "tokenizer")
    source = checkpoint_from_source(file)
    shutil.copytree(source.folder / "tokenizer", folder / "tokenizer")
    assert main(["export", str(file), "-o", str(tmp_path / "bundle")]) == 0
    expected = Bundle.open(export_checkpoint(folder, tmp_path / "expected"))
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.manifest.source == str(file)
    assert bundle.family == expected.family
    assert hashes(bundle) == hashes(expected)
    images = [draw(each.root) for each in (bundle, expected)]
    assert np.array_equal(*images)
    assert images[0].std() > 1


def hashes(bundle: Bundle) -> dict[str, str | None]:
    """Of the networks' files."""
    files = [file for part in bundle.manifest.components for file in part.files]
    return {file.path: file.sha256 for file in files if not file.path.endswith(".json")}


def draw(bundle: Path) -> np.ndarray:
    with Pipeline.open(bundle, target="cpu") as pipe:
        (image,) = pipe("a photo of a cat", width=64, height=64, num_inference_steps=2).images
    return np.asarray(image)
