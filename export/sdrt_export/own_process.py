"""Calls a function in a process of its own, whose memory is free again when it has returned.

The process reads the pickled call from its standard input and writes the pickled result, or the
exception, to its standard output, so no file is left. It ends when its input is closed, so also if
its caller is killed. Unlike a process of `multiprocessing`, it does not import the caller's script.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

from sdrt_export.errors import ExportError

P = ParamSpec("P")
R = TypeVar("R")


def call_in_own_process(
    task: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """The result of `function`, a function of a module, for arguments that can be pickled.

    Raises what the function raises, with the traceback as a note; ExportError, which begins with
    `task`, if the process ends early. An exception in the caller, such as Ctrl-C, ends it.
    """
    # -P: no module of the working folder takes the place of one of ours.
    command = [sys.executable, "-P", "-m", __name__]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    call = pickle.dumps((function, args, kwargs))
    answer = b""
    with (
        suppress(BrokenPipeError),  # it ended before it read the call
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # the caller decides what Ctrl-C ends
        ) as process,
    ):
        try:
            answer = _answer_of(process, call)
        except BaseException:
            process.kill()
            raise
    if not answer:
        raise ExportError(f"{task}: {_reason(process.returncode)}")
    result, error = pickle.loads(answer)
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _answer_of(process: subprocess.Popen[bytes], call: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(pickle.dumps(call))
    process.stdin.flush()  # it stays open as long as the answer is wanted
    return process.stdout.read()


def _reason(code: int) -> str:
    if code == -9:
        return (
            "the system ended the process that runs torch, most likely for lack of memory: close "
            "other programs, or export on a machine with more memory"
        )
    return f"the process that runs torch ended with exit code {code}: report this, with its output"


def main() -> None:
    """Answers one call."""
    call = pickle.load(sys.stdin.buffer)  # bytes: nothing is imported yet
    threading.Thread(target=_end_with_caller, daemon=True).start()
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for libraries that print
    answer.write(_answer_to(call))
    answer.flush()
    os._exit(0)  # the caller waits; freeing gigabytes takes time


def _end_with_caller() -> None:
    sys.stdin.buffer.read()  # returns when the caller closes it, or has ended
    os._exit(1)


def _answer_to(call: bytes) -> bytes:
    try:
        function, args, kwargs = pickle.loads(call)
        return pickle.dumps((function(*args, **kwargs), None))
    except Exception as error:
        error.add_note(f"In the process that ran it: {traceback.format_exc()}")
        return _pickled(error)


def _pickled(error: Exception) -> bytes:
    with suppress(Exception):
        return pickle.dumps((None, error))
    return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))


if __name__ == "__main__":
    main()
