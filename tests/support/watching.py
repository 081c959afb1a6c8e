"""Observes the calls of real code."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def calls_of(name: str) -> Iterator[list[str]]:
    """The files of the Python functions called `name` that run during the block, including in
    threads started during it."""
    files: list[str] = []

    def watch(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_name == name:
            files.append(frame.f_code.co_filename)

    before, before_in_threads = sys.getprofile(), threading.getprofile()
    sys.setprofile(watch)
    threading.setprofile(watch)
    try:
        yield files
    finally:
        sys.setprofile(before)
        threading.setprofile(before_in_threads)
