"""Objects in forked processes; pipelines are in tests/runtime/test_processes.py."""

from __future__ import annotations

import os
import weakref

import pytest

from sdrt_engines.forks import OneProcess, keep_for_ever


class Thing:
    pass


def test_what_is_kept_is_never_freed() -> None:
    kept, other = Thing(), Thing()
    keep_for_ever(kept)
    of_kept, of_other = weakref.ref(kept), weakref.ref(other)
    del kept, other
    assert of_kept() is not None
    assert of_other() is None


def test_a_library_works_in_the_process_that_used_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    unused, used = OneProcess("CUDA"), OneProcess("CUDA")
    used.use()
    assert used.refusal() is None
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)  # as in a fork
    assert unused.refusal() is None
    used.use()
    assert used.refusal() == (
        "CUDA was used before this process was forked, and its threads do not exist here: start "
        "processes with 'spawn', or fork before that"
    )
