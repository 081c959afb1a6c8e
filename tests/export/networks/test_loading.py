"""Reading a checkpoint's models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers.utils import logging

from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.networks.loading import parts_from_checkpoint

pytestmark = pytest.mark.export


def test_nothing_is_printed(
    tiny_checkpoint: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """transformers 5 shows a progress bar for the text encoder, even in a pipe."""
    checkpoint = checkpoint_from_source(tiny_checkpoint("classic"))
    capfd.readouterr()
    for part in parts_from_checkpoint(checkpoint):
        part.networks()
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()  # as before: it is the caller's choice
