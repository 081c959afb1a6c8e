"""Fixtures of the exporter's tests: a tiny checkpoint, its bundle, and narrow ones as files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.original_layout import Weights


@pytest.fixture(scope="session")
def checkpoint(tiny_checkpoint: Callable[[str], Path]) -> Path:
    """A diffusers folder; copy it before changing it."""
    return tiny_checkpoint("classic")


@pytest.fixture(scope="session")
def bundle(tiny_bundle: Callable[[str], Path]) -> Path:
    """The bundle of `checkpoint`, with two ControlNets."""
    return tiny_bundle("classic")


@pytest.fixture(scope="session")
def narrow_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The diffusers folder of a narrow architecture."""
    from sdrt_export.synthetic import make_checkpoint
    from support.narrow_architectures import NARROW

    root = tmp_path_factory.mktemp("narrow")

    @cache
    def folder(name: str) -> Path:
        return make_checkpoint(root / name, NARROW[name])

    return folder


@pytest.fixture(scope="session")
def original_weights(narrow_folder: Callable[[str], Path]) -> Callable[[str], Weights]:
    """Its weights in the original layout; copy them before changing them."""
    from support.narrow_architectures import ENCODERS, MARKS
    from support.original_layout import models_in, original_checkpoint

    @cache
    def weights(name: str) -> Weights:
        original = original_checkpoint(models_in(narrow_folder(name)), ENCODERS[name])
        return original | MARKS.get(name, {})

    return weights


@pytest.fixture
def sd1(original_weights: Callable[[str], Weights]) -> Weights:
    """A checkpoint of SD1, which may be changed."""
    return dict(original_weights("sd1"))
