from __future__ import annotations

import sys
from collections.abc import Iterator
from mmap import ACCESS_COPY, ACCESS_READ, mmap
from pathlib import Path

import pytest

from sdrt_engines.mapped_files import released_meanwhile
from support.mapped import resident

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives pages back")

SIZE = 2**24


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    return path


def test_pages_leave_memory_and_are_read_again(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    with file.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as mapped:
        content = mapped[:]
        assert resident(file) == SIZE
        with released_meanwhile([link, tmp_path / "missing"]):
            pass
        assert resident(file) == 0
        assert mapped[:] == content


def test_pages_leave_memory_in_the_block(file: Path) -> None:
    def reads() -> Iterator[int]:
        while True:
            yield len(mapped[: SIZE // 2])

    with file.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as mapped:
        mapped[:]
        with released_meanwhile([file]):
            assert next(_ for _ in reads() if resident(file) < SIZE)


def test_changes_in_memory_are_kept(file: Path) -> None:
    with file.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_COPY) as mapped:
        mapped[:4] = b"new."
        with released_meanwhile([file]):
            pass
        assert mapped[:4] == b"new."


def test_other_files_stay_in_memory(file: Path, tmp_path: Path) -> None:
    with file.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as mapped:
        mapped[:]
        with released_meanwhile([tmp_path / "other"]):
            pass
        assert resident(file) == SIZE
