"""The states in which a killed writer may leave a folder: a copy before each step of a block.

Python reports every creation, renaming and removal to its audit hooks, also those of code that
knows nothing of this test, so none can be missed.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

# Each with the place of the folder that its path is relative to, among its arguments
_STEPS = {"os.rename": 2, "os.remove": 1, "os.mkdir": 2, "os.rmdir": 1, "os.chmod": 2}
_WRITES = os.O_WRONLY | os.O_RDWR

_watchers: list[Callable[[str, str], None]] = []


@contextmanager
def killed_at_each_step(folder: Path, copies: Path) -> Iterator[list[tuple[str, Path]]]:
    """A list that gets the next step and a copy of `folder` before it, for each step inside it."""
    found: list[tuple[str, Path]] = []

    def copy(step: str, path: str) -> None:
        if Path(path).is_relative_to(folder):
            _watchers.remove(copy)
            place = copies / str(len(found))
            shutil.copytree(folder, place, symlinks=True)
            found.append((f"{step} {path}", place))
            _watchers.append(copy)

    _install()
    _watchers.append(copy)
    try:
        yield found
    finally:
        _watchers.remove(copy)


@contextmanager
def interrupted_at_step(number: int, folder: Path) -> Iterator[None]:
    """Raises KeyboardInterrupt before a step in the folder, counted from 0."""
    left = [number]

    def interrupt(step: str, path: str) -> None:
        if Path(path).is_relative_to(folder):
            left[0] -= 1
            if left[0] == -1:
                raise KeyboardInterrupt

    _install()
    _watchers.append(interrupt)
    try:
        yield
    finally:
        _watchers.remove(interrupt)


@cache
def _install() -> None:
    sys.addaudithook(_on_event)  # for the rest of the process: there is no way to remove it


def _on_event(event: str, arguments: tuple[object, ...]) -> None:
    if not _watchers:
        return
    place = _STEPS.get(event)
    if event == "open":
        _, _, flags = arguments
        if not isinstance(flags, int) or not flags & _WRITES:
            return
    elif place is None:
        return
    path = arguments[0]
    if isinstance(path, str | bytes | os.PathLike):  # not an open file
        folder = arguments[place] if place else -1
        absolute = Path(f"/proc/self/fd/{folder}").resolve() if folder != -1 else Path.cwd()
        for watcher in list(_watchers):
            watcher(event, str(absolute / os.fsdecode(path)))
