"""Stopping: signals at random moments, early Ctrl-C, deadlines, exceptions of signal handlers."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import sdrt
from fuzzing.bundles import PROMPT, Place, pixels
from fuzzing.long_networks import endless, slow
from fuzzing.outcomes import (
    Case,
    Ran,
    call,
    command,
    complaint_about,
    end_of,
    judged,
    send_signals,
    start,
)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SIZE = ("-q", "--steps", "2", "--seed", "7", "--width", "64", "--height", "64")
# As the installed command, which writes a byte when it begins.
_ENTRY = ("-c", "import os, sdrt_command as s; os.write(1, b'.'); raise SystemExit(s.main())")
QUICK = 3.0  # seconds within which a command ends whose network returns between its nodes
GRACE = 9.0  # seconds within which any command ends: five, and the time of its cleaning up


def targets() -> tuple[str, ...]:
    return tuple(name for name in ("cpu", "openvino") if name == "cpu" or find_spec(name))


def _long(place: Place) -> dict[str, Path]:
    """The bundles whose networks take long."""
    return {
        "endless": place.once("endless", partial(endless, place.toy())),
        "slow": place.once("slow", partial(slow, place.toy())),
    }


# --- signals


def signals(place: Place) -> Iterator[Case]:
    """A signal while a command loads, runs or writes: it ends, and leaves only whole images."""
    for number in range(place.times(18)):
        target, sign = targets()[number % len(targets())], SIGNALS[number % 3]
        after = place.random.uniform(0.3, 2.5)
        words = ("run", place.demo(), PROMPT, *SIZE, "--num-images", "12", "--target", target)
        yield _signalled(place, f"the demo on {target}", words, [(after, sign)], GRACE)


def signals_in_networks(place: Place) -> Iterator[Case]:
    """A signal while a network runs that never ends, or whose nodes take seconds. The first stops
    it between two nodes; the second ends the process at once."""
    for (name, bundle), target in itertools.product(_long(place).items(), targets()):
        words = ("run", bundle, PROMPT, *SIZE, "--target", target)
        for sign in place.random.sample(SIGNALS, 1):
            after = place.random.uniform(1.5, 2.5)
            yield _signalled(place, f"{name} on {target}", words, [(after, sign)], GRACE)
            twice = [(after, sign), (0.5, place.random.choice((signal.SIGINT, signal.SIGTERM)))]
            yield _signalled(place, f"{name} on {target}, twice", words, twice, QUICK)


def early_interrupts(place: Place) -> Iterator[Case]:
    """Ctrl-C in the first moments of the command: quiet, exit code 130."""
    for number in range(place.times(24)):
        words = ("run", place.toy(), PROMPT, *SIZE)
        after = 0.75 * (number + place.random.random()) / place.times(24)
        yield _signalled(place, "early", words, [(after, signal.SIGINT)], GRACE)


def _signalled(
    place: Place,
    name: str,
    words: Sequence[object],
    signs: Sequence[tuple[float, signal.Signals]],
    patience: float,
) -> Case:
    """A command that gets these signals, each after a time; it writes into an empty folder."""
    folder = place.work / "signalled"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    words = (*words, "-o", folder / "p.png")
    process = start(words, folder, entry=_ENTRY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(1)  # the interpreter's own start is not ours
    send_signals(process, signs)
    begin = time.monotonic()
    ran = end_of(process, patience)
    if ran.hung:
        return Case(name, "hang", f"{signs}: not ended after {patience:g} s")
    title = f"{name}: {', '.join(f'{sign.name} after {after:.2f} s' for after, sign in signs)}"
    title += f" ({time.monotonic() - begin:.1f} s)"
    return _ended(title, ran, {sign for _, sign in signs}, folder)


def _ended(name: str, ran: Ran, signs: Set[signal.Signals], folder: Path) -> Case:
    """Good: finished before, or a signal's exit code, one line at most, and only whole images."""
    broken = [path.name for path in folder.iterdir() if not _is_whole(path)]
    if broken:
        return Case(name, "broken", ", ".join(broken))
    if "Traceback" in ran.err:
        return Case(name, "traceback", ran.err[-300:])
    if ran.code == 0:
        return Case(name, "works")
    codes = {128 + sign for sign in signs} | {-sign for sign in signs}  # negative: by the system
    if ran.code not in codes:
        return Case(name, "signal", f"exit code {ran.code}: {ran.err[-200:]}")
    complaint = complaint_about(ran.err) if ran.err else ""
    return Case(name, "unclear" if complaint else "clear", complaint)


def _is_whole(path: Path) -> bool:
    try:
        return path.suffix == ".png" and bool(pixels(path.read_bytes()))
    except Exception:
        return False


# --- deadlines


def deadlines(place: Place) -> Iterator[Case]:
    """Each request ends in time, with its image or one line."""
    for target in targets():
        with sdrt.Pipeline.open(place.demo(), target) as pipe:
            draw = partial(pipe, PROMPT, seed=7, num_inference_steps=8, width=64, height=64)
            right = draw().latents.tobytes()
            for _ in range(place.times(20)):
                seconds = place.random.uniform(0, 0.2)
                yield _in_time(f"{target}: {seconds:.3f} s", draw, seconds, right)
    for (name, bundle), target in itertools.product(_long(place).items(), targets()):
        with sdrt.Pipeline.open(bundle, target) as pipe:
            for seconds in (0.1, 0.7):
                draw = partial(pipe, PROMPT, width=64, height=64, num_inference_steps=2)
                yield _in_time(f"{name} on {target}: {seconds} s", draw, seconds, b"")
        words = ("run", bundle, PROMPT, *SIZE, "--target", target, "--deadline", "0.5")
        yield judged(f"{name} on {target}, --deadline", command(*words), success="silent")
    for value in ("0", "-1", "nan", "inf", "x", "", "1e400"):
        late = ("--deadline", value, "-o", place.work / "d.png")
        ran = command("run", place.toy(), PROMPT, *SIZE, *late)
        yield judged(f"--deadline {value!r}", ran)


def _in_time(name: str, draw: Callable[..., sdrt.Result], seconds: float, right: bytes) -> Case:
    begin = time.monotonic()
    ran = call(partial(draw, deadline=seconds))
    late = time.monotonic() - begin - seconds
    if late > GRACE:
        return Case(name, "hang", f"{late:.1f} s late")
    same = ran.raised is None and not ran.hung and ran.value.latents.tobytes() == right
    return judged(name, ran, success="identical" if same else "silent")


# --- exceptions of signal handlers


class TaskTimeoutError(Exception):
    """Raised by a task queue, in a signal handler."""


def exceptions_of_handlers(place: Place) -> Iterator[Case]:
    """An exception of a handler comes out unchanged, and the pipeline works on."""
    kinds = (
        TimeoutError,
        TaskTimeoutError,
        KeyboardInterrupt,
        SystemExit,
        RuntimeError,
        MemoryError,
    )
    for target in targets():
        with sdrt.Pipeline.open(place.demo(), target) as pipe:
            draw = partial(pipe, PROMPT, seed=7, num_inference_steps=8, width=64, height=64)
            right = draw().latents.tobytes()
            for number in range(place.times(20)):
                error = kinds[number % len(kinds)]("from a handler")
                after = place.random.uniform(0, 0.12)
                name = f"{target}: {type(error).__name__} after {after:.3f} s"
                yield _unchanged(name, draw, error, after)
            again = call(draw)
            same = again.value is not None and again.value.latents.tobytes() == right
            yield judged(f"{target}: afterwards", again, success="identical" if same else "silent")


def _unchanged(
    name: str, draw: Callable[[], sdrt.Result], error: BaseException, after: float
) -> Case:
    try:
        with _raised_by_a_handler(error, after):
            draw()
    except BaseException as raised:
        if raised is error:
            return Case(name, "works")
        return Case(name, "traceback", f"{type(raised).__name__}: {str(raised)[:200]}")
    return Case(name, "silent", "the exception was lost")


@contextmanager
def _raised_by_a_handler(error: BaseException, after: float) -> Iterator[None]:
    """Raises the error in the block after a time, or at its end, as a signal handler."""
    raised = threading.Event()

    def handler(*_: object) -> None:
        raised.set()
        raise error

    before = signal.signal(signal.SIGUSR1, handler)
    timer = threading.Timer(after, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        timer.start()
        yield
        while not raised.is_set():
            time.sleep(0.01)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
