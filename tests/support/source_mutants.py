"""Changes of a source file that a test must notice: mutants, each run in a process of its own.

    assert survivors(mutants_in(Path("mutants.diff")), ["tests/test_something.py"]) == []

Needs `fork`: pytest and numpy are loaded once, and each mutant's process loads only sdrt.
"""

from __future__ import annotations

import compileall
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

HOUSE = Path(__file__).parents[2]
PACKAGE = HOUSE / "engines" / "sdrt_engines"
SECONDS = 120  # tests that take longer hang: the mutant is noticed


@dataclass(frozen=True)
class Mutant:
    """Lines of a file of sdrt_engines that occur once, and what replaces them."""

    file: str
    old: str
    new: str

    @property
    def source(self) -> str:
        """The mutated file. ValueError if the lines do not occur exactly once."""
        source, old = "\n" + (PACKAGE / self.file).read_text("utf-8"), "\n" + self.old
        if source.count(old) != 1:
            raise ValueError(f"{self.file} has these lines {source.count(old)} times:{old}")
        return source.replace(old, "\n" + self.new)[1:]

    def __str__(self) -> str:
        return f"{self.file}:\n{self.old}→\n{self.new}"


def mutants_in(path: Path) -> Iterator[Mutant]:
    """The mutants in a file of diffs: empty lines separate them, and `== FILE` begins a file's."""
    file = ""
    for block in path.read_text("utf-8").rstrip("\n").split("\n\n"):
        if block.startswith("== "):
            file = block[3:]
        else:
            old, new = (
                "".join(f"{line[1:]}\n" for line in block.splitlines() if line[0] in kinds)
                for kinds in ("- ", "+ ")
            )
            yield Mutant(file, old, new)


def survivors(mutants: Sequence[Mutant], tests: Sequence[str]) -> list[Mutant]:
    """The mutants with which all tests pass. RuntimeError if a test fails without any."""
    process = subprocess.run(
        [sys.executable, __file__],
        input=pickle.dumps(([None, *mutants], [str(HOUSE / test) for test in tests])),
        env=_environment(),
        cwd=HOUSE,
        capture_output=True,
        check=True,
    )
    passed: list[bool] = pickle.loads(process.stdout)
    if not passed[0]:
        raise RuntimeError(f"a test fails without a mutant: {process.stderr.decode()}")
    return [mutant for mutant, survived in zip(mutants, passed[1:], strict=True) if survived]


def _environment() -> dict[str, str]:
    """With bytecode, without which most of the time goes into compiling."""
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPATH": str(HOUSE / "tests")}


def _passed(mutants: Sequence[Mutant | None], tests: Sequence[str]) -> list[bool]:
    """True for each mutant with which all tests pass; two processes at once."""
    results: dict[int, bool] = {}
    running: dict[int, tuple[int, float]] = {}  # process → (mutant, start)
    todo = iter(enumerate(mutants))
    while len(results) < len(mutants):
        while len(running) < 2 and (job := next(todo, None)):
            running[_started(job[1], tests)] = job[0], time.monotonic()
        for process, passed in _ended(running):
            results[running.pop(process)[0]] = passed
        time.sleep(0.01)
    return [results[index] for index in range(len(mutants))]


def _ended(running: dict[int, tuple[int, float]]) -> Iterator[tuple[int, bool]]:
    for process, (_, start) in list(running.items()):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            yield process, status == 0
        elif time.monotonic() - start > SECONDS:
            os.kill(process, 9)
            os.waitpid(process, 0)
            yield process, False


def _started(mutant: Mutant | None, tests: Sequence[str]) -> int:
    """Runs the tests with the mutant in a child process; its number."""
    if process := os.fork():
        return process
    code = 1
    output = sys.stderr if mutant is None else StringIO()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            redirect_stdout(output),
            redirect_stderr(output),
        ):
            code = _run(mutant, tests, Path(folder))
    finally:
        sys.stderr.flush()
        os._exit(code)


def _run(mutant: Mutant | None, tests: Sequence[str], folder: Path) -> int:
    import pytest

    shutil.copytree(PACKAGE, folder / PACKAGE.name)
    if mutant is not None:
        (folder / PACKAGE.name / mutant.file).write_text(mutant.source, "utf-8")
    paths = [str(folder), *(str(HOUSE / name) for name in ("runtime", "export", "tests"))]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-o", f"pythonpath={' '.join(paths)}"]
    return int(pytest.main([*options, *tests]))


if __name__ == "__main__":
    import numpy  # noqa: F401
    import pytest  # noqa: F401

    compileall.compile_dir(PACKAGE, quiet=1)
    sys.stdout.buffer.write(pickle.dumps(_passed(*pickle.load(sys.stdin.buffer))))
