"""Single files: the same checkpoints as the diffusers folders that they were made from."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from sdrt_export.checkpoints.checkpoint import Checkpoint, checkpoint_from_source
from sdrt_export.networks.loading import MODELS, Part, parts_from_checkpoint
from sdrt_export.synthetic import make_checkpoint
from support.narrow_architectures import NARROW
from support.original_layout import (
    REFINER,
    SD1,
    SD2,
    XL,
    Weights,
    models_in,
    original_checkpoint,
    save,
)

pytestmark = [pytest.mark.export, pytest.mark.needs("open_clip")]

ENCODERS = {
    "sd1": SD1,
    "sd1_inpaint": SD1,
    "sd2_v": SD2,
    "sd2_base": SD2,
    "xl": XL,
    "refiner": REFINER,
}
MARKS = {"sd2_v": {"v_pred": torch.empty(0)}, "sd2_base": {}}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The diffusers folder of a narrow architecture."""
    root = tmp_path_factory.mktemp("folders")

    @cache
    def folder(name: str) -> Path:
        return make_checkpoint(root / name, NARROW[name])

    return folder


@pytest.fixture(scope="module")
def weights_of(folder_of: Callable[[str], Path]) -> Callable[[str], Weights]:
    """The weights of a folder in the original layout; copy them before changing them."""

    @cache
    def weights(name: str) -> Weights:
        original = original_checkpoint(models_in(folder_of(name)), ENCODERS[name])
        return original | MARKS.get(name, {})

    return weights


@pytest.fixture
def sd1(weights_of: Callable[[str], Weights]) -> Weights:
    """A checkpoint of SD1, which may be changed."""
    return dict(weights_of("sd1"))


def read(weights: Weights, folder: Path, **options: Any) -> Checkpoint:
    return checkpoint_from_source(save(weights, folder / "model.safetensors"), **options)


def parts_of(checkpoint: Checkpoint) -> dict[str, Part]:
    return {part.name: part for part in parts_from_checkpoint(checkpoint)}


def config_of(part: Part) -> dict[str, Any]:
    """Its configuration as torch reads it, so that defaults do not differ."""
    with torch.device("meta"):
        config = dict(vars(MODELS[part.kind].from_config(part.config.parent).config))
    return json.loads(json.dumps(config, default=str))


@pytest.mark.parametrize("name", NARROW)
def test_a_file_equals_its_folder(
    name: str,
    folder_of: Callable[[str], Path],
    weights_of: Callable[[str], Weights],
    tmp_path: Path,
) -> None:
    file = read(weights_of(name), tmp_path)
    folder = checkpoint_from_source(folder_of(name))
    assert (file.kind, file.family) == (folder.kind, folder.family)
    assert_equal_parts(file, folder)


def assert_equal_parts(file: Checkpoint, folder: Checkpoint) -> None:
    given, expected = parts_of(file), parts_of(folder)
    assert given.keys() == expected.keys()
    for name, part in expected.items():
        weights, others = given[name].weights(), part.weights()
        assert weights.keys() == others.keys()
        for key, weight in others.items():
            assert torch.equal(weights[key], weight), key
