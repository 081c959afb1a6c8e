"""Fixtures of the exporter's tests: one tiny checkpoint, and its bundle."""

from pathlib import Path

import pytest
import torch

from checkpoints import tiny_checkpoint
from sdrt_export.exporting import export_checkpoint

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder; copy it before changing it."""
    return tiny_checkpoint("classic", tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of `checkpoint`."""
    return export_checkpoint(checkpoint, tmp_path_factory.mktemp("bundles") / "classic")
