from __future__ import annotations

import os

import pytest

from sdrt_engines import EngineError
from sdrt_engines.threads import MAX_THREADS, require_num_threads


@pytest.mark.parametrize("num_threads", [None, 1, 8])
def test_a_number_of_threads(num_threads: int | None) -> None:
    require_num_threads(num_threads)


@pytest.mark.parametrize("num_threads", [0, -1, 10**30, True, False, 2.0, "4"])
def test_no_number_of_threads(num_threads: object) -> None:
    with pytest.raises(EngineError) as caught:
        require_num_threads(num_threads, MAX_THREADS)
    assert str(caught.value) == (
        f"num_threads: got {num_threads!r}, expected a whole number from 1 to 1024 "
        f"({os.cpu_count()} processors): leave it out to use every physical core"
    )


def test_more_threads_than_this_machine_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    require_num_threads(16)
    with pytest.raises(EngineError, match=r"got 17, expected a whole number from 1 to 16 \(2 pro"):
        require_num_threads(17)
    require_num_threads(17, MAX_THREADS)  # the record of a larger machine
