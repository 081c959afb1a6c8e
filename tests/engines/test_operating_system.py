"""Runs every branch for other systems, with stand-ins that do the same work on Linux."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sdrt_engines.operating_system import (
    cannot_lock,
    exchange,
    free_files,
    is_disk_full,
    is_in_use,
    is_over_quota,
    peak_memory,
    sync_to_disk,
    take_lock,
    usable_processors,
    user_caches,
)

fcntl = pytest.importorskip("fcntl", reason="the stand-ins lock with it")


def msvcrt() -> ModuleType:
    """Windows' module with the call that `take_lock` makes; the locks are real ones."""

    def locking(descriptor: int, mode: int, num_bytes: int) -> None:
        assert (mode, num_bytes) == (module.LK_NBLCK, 1)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PermissionError(errno.EACCES, "Permission denied") from error

    module = ModuleType("msvcrt")
    module.LK_NBLCK, module.locking = 2, locking  # type: ignore[attr-defined]
    return module


POSIX = pytest.param(fcntl, None, id="posix")
WINDOWS = pytest.param(None, msvcrt(), id="windows")


@pytest.mark.parametrize(("posix", "windows"), [POSIX, WINDOWS])
def test_one_has_the_lock_until_it_closes_the_file(
    tmp_path: Path, posix: ModuleType | None, windows: ModuleType | None
) -> None:
    path = tmp_path / "lock"
    with path.open("a+b") as second:
        with path.open("a+b") as first:
            assert take_lock(first, wait=False, fcntl=posix, msvcrt=windows)
            assert not take_lock(second, wait=False, fcntl=posix, msvcrt=windows)
        assert take_lock(second, wait=False, fcntl=posix, msvcrt=windows)


@pytest.mark.parametrize(("posix", "windows"), [POSIX, WINDOWS])
def test_who_waits_gets_the_lock(
    tmp_path: Path, posix: ModuleType | None, windows: ModuleType | None
) -> None:
    path = tmp_path / "lock"
    with path.open("a+b") as first, path.open("a+b") as second:
        assert take_lock(first, wait=True, fcntl=posix, msvcrt=windows)
        taken = threading.Event()

        def wait() -> None:
            assert take_lock(second, wait=True, fcntl=posix, msvcrt=windows)
            taken.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not taken.wait(0.1)
        first.close()
        assert taken.wait(30)
        waiting.join()


def test_another_error_than_a_taken_lock_is_raised(tmp_path: Path) -> None:
    broken = ModuleType("msvcrt")

    def locking(descriptor: int, mode: int, num_bytes: int) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    broken.LK_NBLCK, broken.locking = 2, locking  # type: ignore[attr-defined]
    with (tmp_path / "lock").open("a+b") as file, pytest.raises(OSError, match="Bad file"):
        take_lock(file, wait=True, fcntl=None, msvcrt=broken)


def test_the_processors_that_this_process_may_use() -> None:
    assert usable_processors(lambda process: {1, 3} if process == 0 else set()) == {1, 3}


def test_where_a_process_cannot_be_restricted_it_may_use_all() -> None:
    assert usable_processors(None) == set(range(os.cpu_count() or 1))


LINUX = Path("/proc/self/status")


@pytest.mark.skipif(not LINUX.exists(), reason="Linux alone has this file")
def test_the_peak_stays_when_memory_is_given_back() -> None:
    before = peak_memory()
    assert before is not None
    large = np.ones(before + 50_000_000, np.uint8)
    size = large.nbytes
    del large
    peak = peak_memory()
    assert peak is not None
    assert peak >= size


def test_the_peak_on_linux(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmPeak:\t  90 kB\nVmHWM:\t   7 kB\n", encoding="utf-8")
    assert peak_memory(tmp_path / "status") == 7 * 1024
    (tmp_path / "status").write_text("Name:\tpython\n", encoding="utf-8")
    assert peak_memory(tmp_path / "status") is None


def test_the_peak_elsewhere(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    peak = peak_memory(tmp_path / "gone", resource)
    assert peak is not None
    assert 1e6 < peak < 1e12
    assert peak_memory(tmp_path / "gone", None) is None  # Windows


@pytest.mark.parametrize(
    ("platform", "folder"),
    [("linux", ".cache"), ("darwin", "Library/Caches"), ("win32", "AppData/Local")],
)
def test_caches_are_in_the_home_folder(
    platform: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_caches(platform) == tmp_path / folder


@pytest.mark.parametrize(
    ("platform", "variable"),
    [("linux", "XDG_CACHE_HOME"), ("darwin", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA")],
)
def test_the_user_may_have_put_caches_elsewhere(
    platform: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path))
    assert user_caches(platform) == tmp_path


@pytest.mark.parametrize(
    ("code", "full", "in_use"),
    [
        (errno.ENOSPC, True, False),
        (errno.EDQUOT, True, False),
        (errno.EACCES, False, True),
        (errno.ENOENT, False, False),
    ],
)
def test_why_a_file_is_not_written(code: int, full: bool, in_use: bool, tmp_path: Path) -> None:
    error = OSError(code, os.strerror(code))
    assert is_disk_full(error) == full
    assert is_in_use(error, tmp_path) == in_use
    assert not is_in_use(error, tmp_path / "gone")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders, each with a file of its name."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / folder.name).touch()
    return first, second


def test_folders_are_exchanged(folders: tuple[Path, Path]) -> None:
    assert exchange(*folders)
    assert [next(folder.iterdir()).name for folder in folders] == ["second", "first"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.EOPNOTSUPP])
def test_a_system_that_cannot_exchange_says_so(folders: tuple[Path, Path], number: int) -> None:
    assert not exchange(*folders, lambda *paths: number)


def test_another_error_of_an_exchange_is_raised(folders: tuple[Path, Path]) -> None:
    first, second = folders
    with pytest.raises(FileNotFoundError, match="missing"):
        exchange(first.with_name("missing"), second)


def test_files_and_folders_reach_the_disk(folders: tuple[Path, Path]) -> None:
    first, _ = folders
    sync_to_disk(first / "first")
    sync_to_disk(first)
    with pytest.raises(FileNotFoundError):
        sync_to_disk(first / "missing")


def test_what_is_no_error_of_the_writer(tmp_path: Path) -> None:
    assert cannot_lock(OSError(errno.ENOLCK, "No locks available"))
    assert not cannot_lock(OSError(errno.EACCES, "Permission denied"))
    assert is_over_quota(OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert not is_over_quota(OSError(errno.ENOSPC, "No space left on device"))
    assert free_files(tmp_path) != 0


def test_a_system_without_locks_says_so(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("a+b") as file, pytest.raises(OSError, match="No locks") as error:
        take_lock(file, wait=True, fcntl=None, msvcrt=None)
    assert cannot_lock(error.value)
