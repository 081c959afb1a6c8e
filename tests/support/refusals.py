"""Bad input: one line on stderr with a remedy, the exit code, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdrt.command_line.main import main

DRAW = ["run", "bundle", "a red circle", "--steps", "1"]

Capture = pytest.CaptureFixture[str]


def entries(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refusal(arguments: list[str], folder: Path, capture: Capture, code: int = 1) -> str:
    """The one error line of a command line that cannot work."""
    before = entries(folder)
    assert main(arguments) == code
    printed = capture.readouterr()
    assert printed.out == ""
    assert entries(folder) == before
    (line,) = printed.err.splitlines()
    assert line.startswith("sdrt: ")
    return line.removeprefix("sdrt: ")
