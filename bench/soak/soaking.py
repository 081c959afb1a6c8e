"""Runs a soak: twins alone, then thousands of operations from many threads, watched."""

from __future__ import annotations

import faulthandler
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from threading import Lock, Thread

from sdrt import Bundle, NoteWarning, Request
from soak.operations import BAD_ENDINGS, Ended, Operation, Operator, Twin, operation_of, twin
from soak.pipelines import Opener, Pipelines, opened, twin_of
from soak.process import Held, held, held_soon, resident_megabytes, uncaught_exceptions
from soak.requests import distinct_requests

_LOOK = 0.2  # seconds between two looks at the threads


@dataclass(frozen=True)
class Settings:
    """The size of a soak."""

    bundle: str | Path
    targets: Sequence[str]
    seed: int = 1
    num_operations: int = 10_000
    num_requests: int = 200  # that differ
    num_threads: int = 16
    patience: float = 120  # seconds that an operation may take; then it hangs
    only: int | None = None  # the index of one operation, to repeat it


@dataclass(frozen=True)
class Report:
    """The findings of a soak."""

    ended: Sequence[Ended]
    uncaught: Sequence[str]  # exceptions in threads and destructors
    memory: Sequence[float]  # MB, at each look
    before: Held
    after: Held
    seconds: float


def soaked(settings: Settings) -> Report:
    """The report of a soak. Ends the process if an operation hangs."""
    bundle = Bundle.open(settings.bundle)
    with _quiet(), uncaught_exceptions() as uncaught:
        requests, twins, seconds = _alone(settings, bundle)
        openers = {name: partial(opened, bundle, name) for name in settings.targets}
        before = _held_after_use(openers, requests, settings)
        pipelines = Pipelines(openers, Random(f"{settings.seed} pipelines"))
        pace = seconds * settings.num_threads / (os.cpu_count() or 1)
        crew = Crew(settings, Operator(settings.seed, requests, twins, pipelines, pace))
        begin = time.monotonic()
        crew.work()
        pipelines.close()
        duration = time.monotonic() - begin
        after = held_soon(before)
    return Report(crew.ended, uncaught, crew.memory, before, after, duration)


class Crew:
    """Threads that take operations in turn, and what they report."""

    def __init__(self, settings: Settings, operator: Operator) -> None:
        self._settings, self._operator = settings, operator
        self._indices = iter(
            range(settings.num_operations) if settings.only is None else [settings.only]
        )
        self._lock = Lock()
        self._running: dict[int, float] = {}  # the begin of each operation
        self.ended: list[Ended] = []
        self.memory: list[float] = []

    def work(self) -> None:
        threads = [Thread(target=self._take_turns) for _ in range(self._settings.num_threads)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self._watch()
            time.sleep(_LOOK)
        faulthandler.cancel_dump_traceback_later()

    def _take_turns(self) -> None:
        while (index := self._next()) is not None:
            ended = self._operator(self._operation(index))
            if ended.ending in BAD_ENDINGS:
                print(self._words(ended), flush=True)
            with self._lock:
                del self._running[index]
                self.ended.append(ended)
                number = len(self.ended)
            if number % 1000 == 0:
                print(f"{number} operations", flush=True)

    def _next(self) -> int | None:
        with self._lock:
            index = next(self._indices, None)
            if index is not None:
                self._running[index] = time.monotonic()
            return index

    def _operation(self, index: int) -> Operation:
        settings = self._settings
        return operation_of(settings.seed, index, settings.targets, settings.num_requests)

    def _watch(self) -> None:
        """Notes the memory. Ends the process with all stacks if an operation hangs, even if no
        thread can run Python any more."""
        patience = self._settings.patience
        faulthandler.dump_traceback_later(2 * patience, exit=True)
        self.memory.append(resident_megabytes())
        with self._lock:
            late = [i for i, begin in self._running.items() if time.monotonic() - begin > patience]
        if late:
            hung = [self._words(Ended(self._operation(index), "unexpected")) for index in late]
            print(*hung, f"hang: not ended after {patience:g} s", sep="\n", flush=True)
            faulthandler.dump_traceback()
            os._exit(3)

    def _words(self, ended: Ended) -> str:
        """The operation, its end, and the options that repeat it."""
        again = f"--seed {self._settings.seed} --only {ended.operation.index}"
        return f"{ended.ending}: {ended.detail} {ended.operation} ({again})"


def _alone(
    settings: Settings, bundle: Bundle
) -> tuple[Sequence[Request], Mapping[str, Sequence[Twin]], float]:
    """The requests, their twins on each target, and the seconds of one."""
    with opened(bundle, "cpu", Random()) as pipe:
        requests = distinct_requests(settings.seed, settings.num_requests, pipe)
    begin, twins = time.monotonic(), {}
    for target in dict.fromkeys(map(twin_of, settings.targets)):
        with opened(bundle, target, Random()) as pipe:
            twins[target] = [twin(request, pipe) for request in requests]
    return requests, twins, (time.monotonic() - begin) / len(requests) / len(twins)


def _held_after_use(
    openers: Mapping[str, Opener], requests: Sequence[Request], settings: Settings
) -> Held:
    """The process after each target was used by many threads and closed: libraries start threads
    of their own once."""
    for name, open_ in openers.items():
        with open_(Random(name)) as pipe, ThreadPoolExecutor(settings.num_threads) as pool:
            list(pool.map(pipe, requests[: settings.num_threads]))
    return held()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without notes on each request and logs of each fallback."""
    log = logging.getLogger("sdrt")
    disabled, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NoteWarning)
            yield
    finally:
        log.disabled = disabled
