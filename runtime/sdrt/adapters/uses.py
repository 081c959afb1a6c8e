"""The use of each kind of file: the command that exports it, or what to give in place of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sdrt.adapters.found import CheckpointFile, ForeignFile, Found

_ARGUMENTS: Mapping[str, str] = {  # of `sdrt export`
    "checkpoint": "{} -o BUNDLE",
    "LoRA": "MODEL --lora {} -o BUNDLE",
    "embedding": "MODEL --embedding {} -o BUNDLE",
    "VAE": "MODEL --vae {} -o BUNDLE",
    "tiny VAE": "MODEL --tiny-vae {} -o BUNDLE",
    "ControlNet": "--controlnet NAME={} --into BUNDLE",
}


def command_for(found: Found, file: str = "FILE") -> str | None:
    """The command that exports `file`; None if none does."""
    if advice_on(found) is not None:
        return None
    return f"sdrt export {_ARGUMENTS[found.kind].format(file)}"


def advice_on(found: Found) -> str | None:
    """The advice on a file that cannot be exported; None for one that can."""
    if isinstance(found, ForeignFile):
        return found.remedy
    if isinstance(found, CheckpointFile) and not found.text_encoders:
        return "give the checkpoint with its text encoders"
    return None


def refusal_as(path: Path, found: Found, expected: str) -> str:
    """The message about a file that was given as something that it is not."""
    advice = advice_on(found) or command_for(found)
    return f"'{path}' is {found.title}, expected {expected}: {advice}"
