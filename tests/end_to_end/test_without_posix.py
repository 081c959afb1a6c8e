"""A system without POSIX's modules, like Windows: no other file may need them."""

from __future__ import annotations

from pathlib import Path

from support.command import run_sdrt

WITHOUT_POSIX = """
import os, sys, types
windows = types.ModuleType("msvcrt")  # the lock that Windows has instead of fcntl's
windows.LK_NBLCK = 2
windows.locking = lambda file, mode, size, lockf=os.lockf: lockf(file, os.F_TLOCK, size)
sys.modules["msvcrt"] = windows
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("fork", "getuid", "killpg", "sched_getaffinity", "sysconf"):
    delattr(os, name)
"""


def test_an_image_is_generated(tmp_path: Path) -> None:
    size = ("--width", "64", "--height", "64", "--steps", "1")
    command = ("run", "demo", "a red circle", *size, "-o", "x.png")
    outcome = run_sdrt(*command, folder=tmp_path, before=WITHOUT_POSIX)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "x.png").is_file()


def test_the_machine_is_diagnosed(tmp_path: Path) -> None:
    outcome = run_sdrt("doctor", "demo", folder=tmp_path, before=WITHOUT_POSIX)
    assert outcome.code == 0, outcome.err
