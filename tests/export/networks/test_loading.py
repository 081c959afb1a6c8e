"""Reading a checkpoint's models."""

from __future__ import annotations

import json
import shutil
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


def test_a_written_configuration_does_not_say_where_the_model_lay(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """diffusers and transformers keep the folder that a model was loaded from, as training has it
    on its own machine."""
    folder = shutil.copytree(tiny_checkpoint("classic"), tmp_path / "checkpoint")
    path = folder / "unet/config.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(stored | {"_name_or_path": "/home/me/x"}), encoding="utf-8")
    parts = {part.name: part for part in parts_from_checkpoint(checkpoint_from_source(folder))}
    parts["unet"].write_config(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert written == {name: value for name, value in stored.items() if name != "_name_or_path"}
