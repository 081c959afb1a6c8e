"""Outcomes of cases: the command line called in this process or in a child, and judged."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sdrt.command_line.main import main as sdrt
from sdrt.errors import SdrtError

Kind: TypeAlias = Literal[
    "identical", "works", "clear", "silent", "unclear", "traceback", "signal", "hang", "broken"
]
GOOD: tuple[Kind, ...] = ("identical", "works", "clear")
BAD: tuple[Kind, ...] = ("silent", "unclear", "traceback", "signal", "hang", "broken")

MAX_LINE = 1500  # of a message
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Case:
    """One case of an area, and its outcome."""

    name: str
    kind: Kind
    detail: str = ""


@dataclass(frozen=True)
class Ran:
    """A call of the command line, or of a function."""

    code: int | None = None
    out: str = ""
    err: str = ""
    raised: BaseException | None = None
    hung: bool = False
    value: Any = field(default=None, compare=False)


class Hang(BaseException):
    """The case takes too long. No `Exception`, so that nothing handles it."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises Hang after that time; a library that does not return to Python is not interrupted."""

    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def call(function: Any, *arguments: Any, seconds: float = 20) -> Ran:
    """A function in this process, with its output."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err), _warnings_in(err), at_most(seconds):
            value = function(*arguments)
    except Hang:
        return Ran(None, out.getvalue(), err.getvalue(), hung=True)
    except SystemExit as error:
        return Ran(int(error.code or 0), out.getvalue(), err.getvalue())
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return Ran(None, out.getvalue(), err.getvalue(), raised=error)
    code = value if isinstance(value, int) else 0
    return Ran(code, out.getvalue(), err.getvalue(), value=value)


@contextmanager
def _warnings_in(err: io.StringIO) -> Iterator[None]:
    """Writes all warnings as a process would, also in a test, where they are errors."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for each in found:
                text = warnings.formatwarning(each.message, each.category, each.filename, 0)
                err.seek(0)
                err.write(text + err.getvalue())


def command(*arguments: object, seconds: float = 20) -> Ran:
    """`sdrt` with these arguments, in this process."""
    return call(sdrt, [str(argument) for argument in arguments], seconds=seconds)


def child(arguments: Sequence[object], folder: Path, seconds: float = 30, **options: Any) -> Ran:
    """`sdrt` with these arguments as a process of its own."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return end_of(start(arguments, folder, **options), seconds)


def start(
    arguments: Sequence[object],
    folder: Path,
    *,
    python: Sequence[str] = (),
    entry: Sequence[str] = ("-m", "sdrt"),
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """The process of a command line; `python` are options of the interpreter, `entry` is how it
    calls sdrt."""
    words = [sys.executable, *python, *entry, *map(str, arguments)]
    paths = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        words,
        cwd=folder,
        env={**(os.environ if env is None else env), "PYTHONPATH": paths},
        **options,
    )


def send_signals(
    process: subprocess.Popen[bytes], signs: Sequence[tuple[float, signal.Signals]]
) -> None:
    """Sends each signal after its seconds, unless the process ends before."""
    for after, sign in signs:
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(sign)


def end_of(process: subprocess.Popen[bytes], seconds: float) -> Ran:
    """The end of a process, which is killed if it takes longer."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Ran(hung=True)
    return Ran(process.returncode, _text(out), _text(err))


def _text(output: bytes | None) -> str:
    return (output or b"").decode(errors="replace")


def judged(name: str, ran: Ran, *, success: Kind = "works", reason: str = "") -> Case:
    """The case of a call; `success` is what exit code 0 means."""
    if ran.hung:
        return Case(name, "hang")
    if ran.raised is not None:
        return _judged_error(name, ran.raised)
    if "Traceback (most recent call last)" in ran.err:
        return Case(name, "traceback", ran.err[-300:])
    if ran.code == 0:
        return Case(name, success, reason)
    if ran.code is not None and ran.code not in (1, 2, 130):
        return Case(name, "signal", f"exit code {ran.code}: {ran.err[-200:]}")
    complaint = complaint_about(ran.err)
    return Case(name, "unclear" if complaint else "clear", complaint or ran.err[-200:])


def _judged_error(name: str, error: BaseException) -> Case:
    """An exception of the Python interface: only SdrtError is right."""
    if isinstance(error, SdrtError):
        complaint = complaint_about(f"sdrt: {' '.join(str(error).split())}\n", raw=True)
        return Case(name, "unclear" if complaint else "clear", complaint or str(error)[:200])
    frames = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f" at {Path(last.filename).name}:{last.lineno}" for last in frames)
    return Case(name, "traceback", f"{type(error).__name__}{place}: {str(error)[:160]}")


def complaint_about(err: str, *, raw: bool = False) -> str:
    """The reason why this output is not one clear line, or ""; `raw`: not for a terminal."""
    lines = err.splitlines()
    if not lines:
        return "no word on stderr"
    strange = [line for line in lines if not line.startswith("sdrt: ")]
    if strange:
        return f"not a line of sdrt: {strange[0][:160]!r}"
    if len([line for line in lines if not line.startswith(("sdrt: note", "sdrt: warn"))]) != 1:
        return f"{len(lines)} lines: {lines[0][:100]!r}"
    if len(lines[-1]) > MAX_LINE:
        return f"{len(lines[-1])} characters: {lines[-1][:100]!r}"
    if not raw and _CONTROL.search(lines[-1]):
        return f"control characters: {lines[-1][:160]!r}"
    return ""
