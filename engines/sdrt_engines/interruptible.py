"""Calls of libraries that block for seconds, made so that Python can stop waiting for them.

Python handles signals between two steps of the main thread, so a thread that is inside a library
notices nothing. Each calling thread therefore has a worker, on which its calls are made: the caller
waits for a lock, which signals and time limits interrupt. The call is then cancelled, and the
caller waits for its end, as it still uses the caller's arrays. What Python interrupts at any moment
is the caller only: whatever must be put in order is put in order on the worker.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from queue import SimpleQueue
from typing import Any, TypeVar

from sdrt_engines.time_limit import acquire, time_is_up

T = TypeVar("T")

_POLL = 0.05  # seconds between two attempts to cancel a call; some come before it has begun
_GRACE = 5.0  # seconds to wait for cancelled calls, at a time limit and at the end of Python
_GRACE_OF_CALLERS = 0.5  # and then for their callers, which free what belongs to libraries


class _Cancelled(BaseException):
    """Ends a cancelled call that waits for its turn. No caller sees it."""


def interruptible(
    call: Callable[[], T], *, when_left: Callable[[], object] = lambda: None, waits: bool = True
) -> T:
    """The result of `call`, made on the worker of this thread.

    If an exception of a signal handler or a time limit interrupts the wait, the call is cancelled,
    and the exception passes on when the call has ended. A second exception passes on at once, and a
    time limit after five seconds; `when_left` is called then, and the call goes on alone. `waits`
    False is for calls that cannot be cancelled: they are always left alone.
    """
    worker = _worker()
    if worker is None:
        return call()
    job = _Job(call)
    try:
        worker.put(job)
        acquire(job.ended)
    except BaseException:
        _thread.worker = None  # it may be busy for long: the next call gets another one
        has_ended = False
        try:
            has_ended = job.cancelled_within(_patience() if waits else 0)
        finally:
            if not has_ended:
                when_left()
        raise
    _leave_if_ending()
    result: T = job.outcome()
    return result


def in_background(call: Callable[[], object]) -> None:
    """Makes the call on another thread. Nobody waits for it but the end of Python, and nobody gets
    its result or error. It is not made if the system has no more threads.
    """
    _leave_if_ending()
    _register_end()
    job = _Job(call)
    _running.add(job)  # at once: Python may end before it begins
    try:
        _Worker().put(job)
    except RuntimeError:
        _running.discard(job)


@contextmanager
def cancelled_by(cancel: Callable[[], object]) -> Iterator[None]:
    """Calls `cancel`, from another thread, if the call in the block should end early.

    It is called again until the block is left.
    """
    job = _thread.job
    if job is None:
        yield
        return
    job.cancelled_by(cancel)
    try:
        yield
    finally:
        job.cancelled_by(None)


@contextmanager
def turn_of(lock: threading.Lock) -> Iterator[None]:
    """Holds the lock. A call that is cancelled stops waiting for it."""
    job = _thread.job
    while not lock.acquire(timeout=_POLL):
        if job and job.cancelled:
            raise _Cancelled
    try:
        yield
    finally:
        lock.release()


def num_running() -> int:
    """The number of calls that have not ended, including those that nobody waits for."""
    return len(_running)


def python_has_ended() -> bool:
    """True after the main thread's program, in functions that are called at its exit. The calls of
    other threads have then been cancelled."""
    main = threading.main_thread()
    if not main.is_alive() and threading.current_thread() is main:
        _end_calls()
    return _ending


class _Job:
    """One call, and the way to cancel it."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.ended = threading.Lock()
        self.ended.acquire()
        self.caller = threading.current_thread()
        self.cancelled = False
        self._call = call
        self._is_running = False
        self._cancel: Callable[[], object] | None = None
        self._changing = threading.Lock()
        self._result: object = None
        self._error: BaseException | None = None

    def make(self) -> None:
        """Makes the call, on the worker, unless it has been cancelled."""
        _running.add(self)
        try:
            if self._begin():
                _thread.job = self
                self._result = self._call()
        except BaseException as error:
            self._error = error
        finally:
            _thread.job = None
            self._is_running = False
            if self.cancelled:  # nobody asks for it
                self._result = self._error = None
            _running.discard(self)
            self.ended.release()

    def _begin(self) -> bool:
        with self._changing:
            self._is_running = not (self.cancelled or _must_leave(self.caller))
            return self._is_running

    def cancelled_by(self, cancel: Callable[[], object] | None) -> None:
        with self._changing:
            self._cancel = cancel

    def cancel(self) -> bool:
        """Cancels the call, if that is possible now. False if it does not run, and never will."""
        with self._changing:
            self.cancelled = True
            if self._cancel:
                self._cancel()
            return self._is_running

    def cancelled_within(self, seconds: float) -> bool:
        """Cancels the call until it has ended; False if that takes longer."""
        end = time.monotonic() + seconds
        while self.cancel():
            if time.monotonic() >= end:
                return False
            self.ended.acquire(timeout=_POLL)
        return True

    def outcome(self) -> Any:
        try:
            if self._error:
                raise self._error
            return self._result
        finally:
            self._error = None  # its traceback refers to this job


class _Worker:
    """A thread that makes the calls of another one, and ends with it."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        start_new_thread(_start, (self._jobs,))

    def put(self, job: _Job) -> None:
        self._jobs.put(job)

    def __del__(self) -> None:
        self._jobs.put(None)


def _start(jobs: SimpleQueue[_Job | None]) -> None:
    """Starts a thread for the jobs on another thread, as a signal within `start` breaks that."""
    try:
        threading.Thread(target=_work, args=(jobs,), name="sdrt", daemon=True).start()
    except RuntimeError:  # the system has no more of them
        _work(jobs)


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job.make()
        del job  # not to keep its result in memory until the next one


class _Thread(threading.local):
    """Facts about the current thread."""

    worker: _Worker | None = None
    job: _Job | None = None  # if it is a worker: what it makes


_thread = _Thread()
_running: set[_Job] = set()
_ending = False


def _worker() -> _Worker | None:
    """The worker of this thread; None if it is one itself, or the system has no more threads."""
    if _thread.job is not None:
        return None
    _leave_if_ending()
    if _thread.worker is None:
        _register_end()
        with suppress(RuntimeError):
            _thread.worker = _Worker()
    return _thread.worker


def _patience() -> float:
    """Seconds to wait for the end of a cancelled call: a time limit cannot come a second time."""
    return _GRACE if time_is_up() else math.inf


def _leave_if_ending() -> None:
    if _must_leave(threading.current_thread()):
        raise SystemExit


def _must_leave(thread: threading.Thread) -> bool:
    """True if Python ends: only its main thread could return from a library any more."""
    return _ending and thread is not threading.main_thread()


@cache
def _register_end() -> None:
    """Not when this module is imported: what is registered last is called first."""
    atexit.register(_end_calls)


def _end_calls() -> None:
    """Cancels the calls of other threads when Python ends.

    A thread that returns from C++ into an interpreter that has ended aborts the process.
    """
    global _ending
    _ending, start = True, time.monotonic()
    callers = [job.caller for job in _running.copy() if _must_leave(job.caller)]
    while _running and time.monotonic() < start + _GRACE:
        for job in _running.copy():
            job.cancel()
        time.sleep(_POLL / 10)
    end = time.monotonic() + _GRACE_OF_CALLERS
    while any(caller.is_alive() for caller in callers) and time.monotonic() < end:
        time.sleep(_POLL / 10)


def _forget_threads() -> None:
    """Workers do not exist in a forked process."""
    global _thread
    _thread = _Thread()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
