"""Closed, full and abandoned output: an image is never lost, and no traceback appears."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = 'run demo "a red circle" -W 64 -H 64 --steps 1 --seed 7 --target cpu'


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`command` in bash, where `sdrt` is the command line; any failure in a pipe counts."""
    sdrt = f'sdrt() {{ "{sys.executable}" -m sdrt "$@"; }}; set -o pipefail; '
    return subprocess.run(
        ["bash", "-c", sdrt + command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "redirection",
    ["<&- >&- 2>&-", "2>/dev/full", ">/dev/full", "2>&1 | head -0"],
)
def test_an_image_is_written_whatever_happens_to_the_output(
    redirection: str, tmp_path: Path
) -> None:
    done = shell(f"sdrt {RUN} {redirection}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sdrt-7.png"]
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert ("stdout cannot be written: No space left" in done.stderr) == (
        redirection == ">/dev/full"
    )


@pytest.mark.parametrize("command", ["inspect demo --json", "--help"])
def test_a_reader_that_leaves_ends_a_command_quietly(command: str, tmp_path: Path) -> None:
    done = shell(f"sdrt {command} | head -0", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_report_that_is_lost_is_an_error(tmp_path: Path) -> None:
    done = shell("sdrt inspect demo >/dev/full", tmp_path)
    assert done.stderr == "sdrt: stdout cannot be written: No space left on device\n"
    assert done.returncode == 1


def test_an_error_without_stderr_still_has_its_exit_code(tmp_path: Path) -> None:
    assert shell("sdrt inspect gone 2>&-", tmp_path).returncode == 1
