"""Fixtures of single files: narrow checkpoints in diffusers' layout and in the original one."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from sdrt_export.synthetic import make_checkpoint
from support.narrow_architectures import ENCODERS, NARROW
from support.original_layout import Weights, models_in, original_checkpoint

# A file of SD2 does not say otherwise what its UNet predicts.
MARKS = {"sd2_v": {"v_pred": torch.empty(0)}}


@pytest.fixture(scope="session")
def narrow_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The diffusers folder of a narrow architecture."""
    root = tmp_path_factory.mktemp("narrow")

    @cache
    def folder(name: str) -> Path:
        return make_checkpoint(root / name, NARROW[name])

    return folder


@pytest.fixture(scope="session")
def original_weights(narrow_folder: Callable[[str], Path]) -> Callable[[str], Weights]:
    """Its weights in the original layout; copy them before changing them."""

    @cache
    def weights(name: str) -> Weights:
        original = original_checkpoint(models_in(narrow_folder(name)), ENCODERS[name])
        return original | MARKS.get(name, {})

    return weights


@pytest.fixture
def sd1(original_weights: Callable[[str], Weights]) -> Weights:
    """A checkpoint of SD1, which may be changed."""
    return dict(original_weights("sd1"))
