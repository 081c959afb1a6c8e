"""Processes that run the sdrt of a checkout: this one, or another to compare with."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parents[1]
_ROOTS = ("runtime", "engines", "export")


def environment_of(checkout: Path, *folders: Path) -> dict[str, str]:
    """The environment of a process that imports sdrt from a checkout, and modules from folders."""
    roots = (checkout.resolve() / root for root in _ROOTS)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*roots, *folders)))}


def commit_of(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.check_output(command, text=True).strip()
