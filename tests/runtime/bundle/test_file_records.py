from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sdrt.bundle.file_records import record_file, verified_meanwhile, verify_file
from sdrt.bundle.manifest import FileRecord
from sdrt.errors import BundleError, SdrtError

SMALL, LARGE = "small", "large"


@pytest.fixture
def records(tmp_path: Path) -> tuple[FileRecord, FileRecord]:
    """A small file and one that is hashed in a thread."""
    (tmp_path / SMALL).write_bytes(b"small")
    with (tmp_path / LARGE).open("wb") as file:
        file.truncate((1 << 26) + 1)
    return record_file(tmp_path, SMALL), record_file(tmp_path, LARGE)


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")


def shorten(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


SPOILT = pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (flip, "the file has changed: got sha256"),
        (shorten, "bytes, expected"),
        (Path.unlink, "is missing: export it again"),
    ],
)


def test_whole_files_let_the_block_work(
    tmp_path: Path, records: tuple[FileRecord, FileRecord]
) -> None:
    worked = []
    with verified_meanwhile(tmp_path, records):
        worked.append(True)
    assert worked


@SPOILT
def test_a_small_file_is_compared_before(
    tmp_path: Path,
    records: tuple[FileRecord, FileRecord],
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    spoil(tmp_path / SMALL)
    with pytest.raises(BundleError, match=message), verified_meanwhile(tmp_path, records):
        pytest.fail("the block must not be reached")
    with pytest.raises(BundleError, match=message):
        verify_file(tmp_path, records[0])


@SPOILT
@pytest.mark.parametrize("fails", [False, True])
def test_a_large_file_is_verified_meanwhile_and_its_damage_reported(
    tmp_path: Path,
    records: tuple[FileRecord, FileRecord],
    spoil: Callable[[Path], None],
    message: str,
    fails: bool,
) -> None:
    spoil(tmp_path / LARGE)
    worked = []
    with pytest.raises(BundleError, match=message), verified_meanwhile(tmp_path, records):
        worked.append(True)
        if fails:
            raise SdrtError("a library that cannot read it")
    assert worked


def test_an_error_of_the_block_is_its_own_where_files_are_whole(
    tmp_path: Path, records: tuple[FileRecord, FileRecord]
) -> None:
    with pytest.raises(ZeroDivisionError), verified_meanwhile(tmp_path, records):
        _ = 1 // 0


def test_records_without_a_hash_are_believed(
    tmp_path: Path, records: tuple[FileRecord, FileRecord]
) -> None:
    flip(tmp_path / LARGE)
    with verified_meanwhile(tmp_path, [replace(record, sha256=None) for record in records]):
        pass
