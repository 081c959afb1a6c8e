from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sdrt.files.locking import file_lock

HOLD = """
import sys
from pathlib import Path
from sdrt.files.locking import file_lock
with file_lock(Path(sys.argv[1]), lambda: print("waiting", flush=True)):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_second_waits_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as first:
        assert said(first) == "held"
        with holder(path) as second:
            assert said(second) == "waiting"
            first.communicate("\n", timeout=30)
            assert said(second) == "held"
            second.communicate("\n", timeout=30)


def test_a_killed_process_gives_the_lock_back(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        assert said(process) == "held"
        process.kill()
        process.wait(timeout=30)
        with file_lock(path, lambda: pytest.fail("nobody holds it")):
            pass
