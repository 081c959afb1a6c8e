"""A short soak, and that its bars notice what they are for."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from soak.bars import bars_of
from soak.operations import GOOD, Ended, Operation, operation_of, twin
from soak.process import Held, held, held_soon, uncaught_exceptions
from soak.requests import distinct_requests
from soak.soaking import Report, Settings, soaked

from sdrt import Pipeline
from support.os_threads import needs_counting
from support.toy_bundle import write_toy_bundle

OPERATION = Operation(0, "call", "cpu", 0, 1.0)
NOTHING_HELD = Held((), 0, ())
GOOD_REPORT = Report(
    [Ended(OPERATION, "identical")], [], [100.0] * 100, NOTHING_HELD, NOTHING_HELD, 60
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("toy") / "bundle")


@needs_counting
def test_a_short_soak_holds_every_bar(bundle: Path) -> None:
    """All but memory, which a short one cannot judge."""
    targets = ("cpu", "failing")
    report = soaked(Settings(bundle, targets, num_operations=150, num_requests=20, num_threads=8))
    assert [bar for bar in bars_of(report) if not bar.holds and bar.name != "memory"] == []
    assert Counter(ended.ending for ended in report.ended).keys() == set(GOOD)
    assert len(report.ended) == 150


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"ended": [Ended(OPERATION, "wrong")]}, "other images than alone"),
        ({"ended": [Ended(OPERATION, "unexpected")]}, "unexpected exceptions"),
        ({"uncaught": ["ValueError: x"]}, "unexpected exceptions"),
        ({"memory": [100.0] * 90 + [111.0] * 10}, "memory"),
        ({"after": Held(("MainThread",), 1, ())}, "threads and files left"),
        ({"after": Held((), 1, ())}, "threads and files left"),
        ({"after": Held((), 0, ("/a",))}, "threads and files left"),
        ({"seconds": 1300}, "minutes"),
    ],
)
def test_each_bar_is_held_by_its_figure(changed: dict[str, Any], name: str) -> None:
    assert all(bar.holds for bar in bars_of(GOOD_REPORT))
    bars = bars_of(replace(GOOD_REPORT, **changed))
    assert [bar.name for bar in bars if not bar.holds] == [name]


def test_the_same_seed_gives_the_same_operations() -> None:
    first, again = ([operation_of(3, i, ("cpu", "failing"), 9) for i in range(50)] for _ in "ab")
    assert first == again


def test_the_same_seed_gives_the_same_images(bundle: Path) -> None:
    with Pipeline.open(bundle, "cpu") as pipe:
        first, again = ([twin(each, pipe) for each in distinct_requests(3, 10, pipe)] for _ in "ab")
    assert first == again
    assert len(set(first)) == 10


@needs_counting
def test_threads_and_files_are_counted(tmp_path: Path) -> None:
    before, goes_on = held(), threading.Event()
    thread = threading.Thread(target=goes_on.wait, name="kept")
    thread.start()
    with (tmp_path / "open").open("w"):
        assert held().beyond(before) == ["the thread kept", f"the open file {tmp_path / 'open'}"]
    goes_on.set()
    assert held_soon(before).beyond(before) == []


def test_an_exception_of_a_thread_is_noted() -> None:
    with uncaught_exceptions() as found:
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    assert found == ["ZeroDivisionError: division by zero"]
