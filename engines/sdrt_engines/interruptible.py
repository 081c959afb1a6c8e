"""Calls of libraries that block for seconds, made so that Python can stop waiting for them.

Python handles signals between two steps of the main thread, so a thread that is inside a library
notices nothing. Each calling thread therefore has a worker, on which its calls are made: the caller
waits for a lock, which signals and time limits interrupt. The call is then cancelled, and the
caller waits for its end, as it still uses the caller's arrays. What Python interrupts at any moment
is the caller only: whatever must be put in order is put in order on the worker.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
_Lock: TypeAlias = "threading.Lock | threading.RLock"

_POLL = 0.05  # seconds between two attempts to cancel a call; some come before it has begun
_GRACE = 5.0  # seconds that the end of Python waits for the calls that it cancels
_GRACE_OF_CALLERS = 0.5  # and then for their callers, which free what belongs to libraries
# Seconds between two looks at signals. One that comes just before the wait does not end it, and on
# Windows none does.
_PATIENCE = 0.1


class _Cancelled(BaseException):
    """Ends a cancelled call that waits for its turn. No caller sees it."""


def interruptible(
    call: Callable[[], T], *, when_left: Callable[[], object] = lambda: None, waits: bool = True
) -> T:
    """The result of `call`, made on the worker of this thread.

    If an exception of a signal handler or a time limit interrupts the wait, the call is cancelled,
    and the exception passes on when the call has ended. `waits` False is for calls that cannot be
    cancelled: it passes on at once, and the result is dropped when it comes. A second exception
    always passes on at once; `when_left` is called then, and the call goes on alone.
    """
    worker = _worker()
    if worker is None:
        return call()
    job = _Job(call)
    try:
        worker.put(job)
        _wait_for(job.ended)
    except BaseException:
        _thread.worker = None  # it may be busy for long: the next call gets another one
        try:
            while job.cancel() and waits and not job.ended.acquire(timeout=_POLL):
                pass
        except BaseException:
            when_left()
            raise
        raise
    _leave_if_ending()
    result: T = job.outcome()
    return result


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


@dataclass(frozen=True)
class _Limit:
    at: float = float("inf")  # of time.monotonic()
    error: Callable[[], Exception] = TimeoutError


@contextmanager
def time_limit(at: float, error: Callable[[], Exception]) -> Iterator[None]:
    """Raises `error()` wherever this thread waits in the block after `time.monotonic()` is `at`."""
    outer, _thread.limit = _thread.limit, _Limit(at, error)
    try:
        yield
    finally:
        _thread.limit = outer


@contextmanager
def held(lock: _Lock) -> Iterator[None]:
    """Holds the lock; a time limit ends the wait for it."""
    _wait_for(lock)
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
        self._call: Callable[[], object] | None = call
        self._begun = False
        self._cancel: Callable[[], object] | None = None
        self._changing = threading.Lock()
        self._result: object = None
        self._error: BaseException | None = None

    def make(self) -> None:
        """Makes the call, on the worker, unless it has been cancelled."""
        with self._changing:
            self._begun, call, self._call = not self.cancelled, self._call, None
        if not self._begun or call is None:
            return
        _thread.job = self
        _running.add(self)
        try:
            self._result = call()
        except BaseException as error:
            self._error = error
        finally:
            _thread.job = None
            if self.cancelled:  # nobody asks for it
                self._result = self._error = None
            _running.discard(self)
            self.ended.release()

    def cancelled_by(self, cancel: Callable[[], object] | None) -> None:
        with self._changing:
            self._cancel = cancel

    def cancel(self) -> bool:
        """Cancels the call, if that is possible now. False if it has not begun, and never will."""
        with self._changing:
            self.cancelled = True
            if self._cancel:
                self._cancel()
            return self._begun

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
        threading.Thread(target=_work, args=(self._jobs,), name="sdrt", daemon=True).start()

    def put(self, job: _Job) -> None:
        self._jobs.put(job)

    def __del__(self) -> None:
        self._jobs.put(None)


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job.make()
        del job  # not to keep its result in memory until the next one


class _Thread(threading.local):
    """What this module knows about the current thread."""

    worker: _Worker | None = None
    job: _Job | None = None  # if it is a worker: what it makes
    limit = _Limit()


_thread = _Thread()
_running: set[_Job] = set()
_ending = False


def _worker() -> _Worker | None:
    """The worker of this thread; None if it is one itself, or the system has no more threads."""
    _leave_if_ending()
    if _thread.worker is None and _thread.job is None:
        _register_end()
        with suppress(RuntimeError):
            _thread.worker = _Worker()
    return _thread.worker


def _wait_for(lock: _Lock) -> None:
    """Acquires the lock; raises the error of the time limit if it takes longer."""
    limit = _thread.limit
    while not lock.acquire(timeout=min(max(limit.at - time.monotonic(), 0), _PATIENCE)):
        if time.monotonic() >= limit.at:
            raise limit.error()


def _leave_if_ending() -> None:
    """Ends this thread if Python ends: it could not return from a library any more."""
    if _ending and threading.current_thread() is not threading.main_thread():
        raise SystemExit


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
    callers = [job.caller for job in _running.copy()]
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
