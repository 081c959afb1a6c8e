"""Runs the command line as a process, and captures its outcome."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_DRIVER = """
import sys
from sdrt.command_line.main import main
code = main(sys.argv[1:])
print("loaded", *sys.modules)
sys.exit(code)
"""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a process: its exit code, its output, and the packages loaded at its end."""

    code: int
    out: tuple[str, ...]  # lines
    err: tuple[str, ...]
    loaded: frozenset[str]


def run_sdrt(*arguments: object, folder: Path, before: str = "") -> Outcome:
    """`sdrt` with these arguments, in `folder`. The code `before` runs first in its process."""
    process = subprocess.run(
        [sys.executable, "-c", before + _DRIVER, *map(str, arguments)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    *out, loaded = process.stdout.splitlines() or [""]
    return Outcome(
        code=process.returncode,
        out=tuple(out),
        err=tuple(process.stderr.splitlines()),
        loaded=frozenset(name.partition(".")[0] for name in loaded.split()),
    )


def run_python(program: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    """A new interpreter that runs `program`; modules in `folders` come before all others."""
    return subprocess.run(
        [sys.executable, "-c", program], env=environment(*folders), capture_output=True, text=True
    )


def environment(*folders: Path) -> dict[str, str]:
    """This process's, for a new interpreter; modules in `folders` come before all others."""
    paths = [*map(str, folders), *filter(None, sys.path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
