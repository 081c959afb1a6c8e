"""Calls on a worker thread: interrupted by signals and time limits, cancelled, or left alone."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock, current_thread, get_ident

import pytest

from sdrt_engines.interruptible import (
    cancelled_by,
    in_background,
    interruptible,
    num_running,
    turn_of,
)
from sdrt_engines.time_limit import held, time_limit
from support.alarms import AGAIN, SOON, AlarmError, alarms
from support.command import run_python
from support.waiting import wait_until

WORKER = "sdrt"  # the name of its thread


class LateError(Exception):
    pass


class Blocking:
    """A call that goes on until it is cancelled, if it can be, or released."""

    def __init__(self, *, can_be_cancelled: bool = True) -> None:
        self.begun, self.released, self.ended = Event(), Event(), Event()
        self._cancel = self.released.set if can_be_cancelled else lambda: None

    def __call__(self) -> str:
        with cancelled_by(self._cancel):
            self.begun.set()
            self.released.wait(30)
        self.ended.set()
        return "a result that nobody wants"


def num_workers() -> int:
    return sum(thread.name == WORKER for thread in threading.enumerate())


def test_a_call_is_made_by_the_same_worker_each_time() -> None:
    first, second = interruptible(current_thread), interruptible(current_thread)
    assert first is second
    assert first is not current_thread()
    assert first.name == WORKER


def test_its_error_passes_unchanged() -> None:
    error = LateError("late")

    def fail() -> None:
        raise error

    with pytest.raises(LateError) as caught:
        interruptible(fail)
    assert caught.value is error


def test_a_call_within_a_call_stays_on_the_worker() -> None:
    inner, outer = interruptible(lambda: (interruptible(get_ident), get_ident()))
    assert inner == outer


def test_a_worker_ends_with_its_thread() -> None:
    before = num_workers()
    with ThreadPoolExecutor(8) as threads:
        barrier = threading.Barrier(8, timeout=10)
        assert len({*threads.map(lambda _: interruptible(barrier.wait), range(8))}) == 8
    wait_until(lambda: num_workers() <= before)


def test_a_signal_cancels_the_call_and_waits_for_its_end() -> None:
    call = Blocking()
    with pytest.raises(AlarmError), alarms(SOON):
        interruptible(call)
    assert call.ended.is_set()
    assert interruptible(lambda: "next") == "next"


def test_a_second_signal_leaves_the_call_alone() -> None:
    call, left = Blocking(can_be_cancelled=False), Event()
    with pytest.raises(AlarmError) as caught, alarms(SOON, AGAIN):
        interruptible(call, when_left=left.set)
    assert caught.value.number == 2
    assert left.is_set()
    assert not call.ended.is_set()
    assert interruptible(lambda: "next") == "next"
    call.released.set()
    assert call.ended.wait(10)


def test_a_signal_that_comes_when_the_call_ends() -> None:
    """It may interrupt the caller after it has seen the end."""
    numbers = set()
    for i in range(300):
        try:
            with alarms(0.0001 + i % 30 * 0.00001, 2.0):  # the second one ends a wait without end
                interruptible(lambda: None)
        except AlarmError as error:
            numbers.add(error.number)
    assert numbers <= {1}


def test_a_time_limit_leaves_a_call_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdrt_engines.interruptible._GRACE", 0.1)
    call, left = Blocking(can_be_cancelled=False), Event()
    with pytest.raises(LateError), time_limit(time.monotonic() + SOON, LateError):
        interruptible(call, when_left=left.set)
    assert left.is_set()
    assert not call.ended.is_set()
    call.released.set()
    assert call.ended.wait(10)


def test_a_call_that_cannot_be_cancelled_is_not_waited_for() -> None:
    call = Blocking(can_be_cancelled=False)
    with pytest.raises(AlarmError), alarms(SOON):
        interruptible(call, waits=False)
    assert not call.ended.is_set()
    call.released.set()
    assert call.ended.wait(10)


def test_a_time_limit_cancels_the_call() -> None:
    call = Blocking()
    with pytest.raises(LateError), time_limit(time.monotonic() + SOON, LateError):
        interruptible(call)
    assert call.ended.is_set()
    with time_limit(time.monotonic() + 60, LateError):
        assert interruptible(lambda: "in time") == "in time"


def test_a_time_limit_is_its_thread_s() -> None:
    with time_limit(0, LateError), ThreadPoolExecutor(1) as threads:
        assert threads.submit(interruptible, lambda: "other").result() == "other"


def test_a_cancelled_call_stops_waiting_for_its_turn() -> None:
    lock = Lock()

    def take_turn() -> None:
        with turn_of(lock):
            pass

    with lock, pytest.raises(LateError), time_limit(time.monotonic() + SOON, LateError):
        interruptible(take_turn)
    interruptible(take_turn)


def test_a_time_limit_ends_the_wait_for_a_lock() -> None:
    lock = Lock()
    limit = time_limit(time.monotonic() + SOON, LateError)
    with lock, pytest.raises(LateError), limit, held(lock):
        pass
    with held(lock):
        assert lock.locked()
    assert not lock.locked()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_workers_of_its_own() -> None:
    program = """
import os
from sdrt_engines.interruptible import interruptible
interruptible(lambda: None)
child = os.fork()
if child == 0:
    os._exit(interruptible(lambda: 7))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), interruptible(lambda: 8))
"""
    assert run_python(program).stdout == "7 8\n"


def test_nobody_waits_for_a_call_in_the_background() -> None:
    call, failed, before = Blocking(), Event(), num_workers()

    def fail() -> None:
        failed.set()
        raise LateError

    in_background(call)
    in_background(fail)
    assert call.begun.wait(10)
    assert failed.wait(10)
    assert not call.ended.is_set()
    call.released.set()
    wait_until(lambda: num_running() == 0 and num_workers() <= before)


def test_a_call_in_the_background_counts_before_it_begins() -> None:
    """The end of Python cancels it, instead of ending while it begins."""
    call = Blocking()
    in_background(call)
    assert num_running() == 1
    call.released.set()
    wait_until(lambda: num_running() == 0)


def test_the_end_of_python_waits_for_a_call_in_the_background() -> None:
    """It may be inside a library, which could not return afterwards."""
    ended = run_python(
        "import threading, time\n"
        "from sdrt_engines.interruptible import in_background\n"
        "begun = threading.Event()\n"
        "in_background(lambda: (begun.set(), time.sleep(0.2), print('ended')))\n"
        "begun.wait()"
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ended\n", "")
