"""Signals: a command ends with the exit code of the signal, and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from sdrt.command_line.signals import Ended, ending_signals

# A shell makes its background jobs ignore interrupts, these tests included.
_START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
IN_A_DRAFT = (
    _START
    + """
import time
from pathlib import Path
from sdrt.command_line import main
from sdrt.files.atomic import appearing_file
def write(options):
    with appearing_file("image.png") as draft:
        draft.write_bytes(bytes(1000))
        print("writing", flush=True)
        while True:  # a signal just before a call does not interrupt it
            time.sleep(0.05)
main._COMMANDS["doctor"] = write
sys.exit(main.main(["doctor"]))
"""
)
COMMAND = (
    _START
    + """
from sdrt_command import main
sys.exit(main())
"""
)
IMPORTED = "import time; print('importing', flush=True); time.sleep(60)"
IN_A_NETWORK = (
    _START
    + """
import contextlib, ctypes
from sdrt.command_line.signals import ending_signals
with ending_signals(grace=0.1):
    mutex, lock = ctypes.create_string_buffer(128), ctypes.CDLL(None).pthread_mutex_lock
    lock(mutex)
    words = ["computing"]
    while True:  # a signal may come before the call that does not return
        with contextlib.suppress(KeyboardInterrupt):
            if words:
                print(words.pop(), flush=True)
            lock(mutex)
"""
)


def started(program: str, folder: Path) -> subprocess.Popen[str]:
    return started_with(("-c", program), folder)


def started_with(
    arguments: Sequence[str], folder: Path, path: Path | None = None
) -> subprocess.Popen[str]:
    """The process, after it has written its first line."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, [str(path or ""), *sys.path]))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_a_command_that_leaves_nothing(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    process = started(IN_A_DRAFT, tmp_path)
    assert list(tmp_path.iterdir())
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "sdrt: interrupted, no incomplete file was left\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("-c", COMMAND), ("-m", "sdrt", "doctor")])
def test_ctrl_c_during_the_imports_is_quiet(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text(IMPORTED)
    process = started_with(arguments, tmp_path, tmp_path)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")


def test_what_does_not_return_to_python_is_ended_too(tmp_path: Path) -> None:
    process = started(IN_A_NETWORK, tmp_path)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert err == "sdrt: interrupted; the next command removes incomplete files\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_at_once(number: signal.Signals, tmp_path: Path) -> None:
    process = started(IN_A_NETWORK.replace("grace=0.1", "grace=60"), tmp_path)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert err == "sdrt: interrupted; the next command removes incomplete files\n"


def test_handlers_of_the_calling_program_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    received = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        with ending_signals():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert received == [signal.SIGTERM]


def test_an_ignored_signal_stays_ignored() -> None:
    """As nohup does it."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_terminal_that_closes_does_not_interrupt_the_cleaning_up() -> None:
    """A shell and systemd send SIGHUP in addition to SIGTERM."""
    cleaned = False
    with pytest.raises(Ended), ending_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)
            cleaned = True
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
