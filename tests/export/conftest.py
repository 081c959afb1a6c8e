"""Fixtures of the exporter's tests: one tiny checkpoint, and its bundle."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkpoint(tiny_checkpoint: Callable[[str], Path]) -> Path:
    """A diffusers folder; copy it before changing it."""
    return tiny_checkpoint("classic")


@pytest.fixture(scope="session")
def bundle(tiny_bundle: Callable[[str], Path]) -> Path:
    """The bundle of `checkpoint`, with two ControlNets."""
    return tiny_bundle("classic")
