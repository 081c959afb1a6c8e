"""Large files that were hashed before are not read again, unless they may have changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sdrt.bundle import file_records, verified_files
from sdrt.bundle.file_records import record_file, verify_file, verify_network
from sdrt.bundle.manifest import FileRecord
from sdrt.bundle.verified_files import MAX_FILES, forget_files
from sdrt.command_line.main import main
from sdrt.errors import BundleError
from sdrt.files.cache import VARIABLE, cache_folder
from support.backends import skip_unless_it_opens
from support.toy_bundle import write_toy_bundle
from support.watching import calls_of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="its files have no time of change")


@pytest.fixture(autouse=True)
def all_files_are_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(verified_files, "LARGE", 1)
    monkeypatch.setattr(verified_files, "_SETTLED", -(10**12))  # files change just before
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def record(tmp_path: Path) -> FileRecord:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/weights").write_bytes(b"weights")
    return record_file(tmp_path / "bundle", "weights")


@pytest.fixture
def root(tmp_path: Path, record: FileRecord) -> Path:
    return tmp_path / "bundle"


def places() -> list[Path]:
    return [*(cache_folder() / "verified").glob("*")]


def num_hashed(root: Path, record: FileRecord) -> int:
    """The number of times that a verification reads the file."""
    with calls_of("_sha256_of") as calls:
        verify_file(root, record)
    return len(calls)


def test_a_file_is_read_once(root: Path, record: FileRecord) -> None:
    assert [num_hashed(root, record) for _ in range(3)] == [1, 0, 0]


def test_each_name_of_it_is_the_same_file(root: Path, record: FileRecord) -> None:
    verify_file(root, record)
    (root / "link").symlink_to("weights")
    assert num_hashed(root, FileRecord("link", record.sha256, record.size)) == 0


def test_other_content_with_the_old_time_is_noticed(root: Path, record: FileRecord) -> None:
    verify_file(root, record)
    before = (root / "weights").stat()
    wait_for_another_time(before.st_ctime_ns, root)
    (root / "weights").write_bytes(b"wEights")
    os.utime(root / "weights", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(BundleError, match="the file has changed: got sha256"):
        verify_file(root, record)
    with pytest.raises(BundleError, match="the file has changed: got sha256"):
        verify_file(root, record)  # what was wrong is not remembered


def wait_for_another_time(ctime_ns: int, folder: Path) -> None:
    """File systems count in steps of milliseconds."""
    while True:
        (folder / "now").write_bytes(b"")
        if (folder / "now").stat().st_ctime_ns > ctime_ns:
            return
        time.sleep(0.001)


def test_another_file_in_its_place_is_noticed(root: Path, record: FileRecord) -> None:
    verify_file(root, record)
    (root / "new").write_bytes(b"wEights")
    (root / "new").replace(root / "weights")
    with pytest.raises(BundleError, match="the file has changed"):
        verify_file(root, record)


def test_another_record_is_not_believed(root: Path, record: FileRecord) -> None:
    verify_file(root, record)
    with pytest.raises(BundleError, match=f"got sha256 {record.sha256}, expected {'0' * 64}"):
        verify_file(root, FileRecord("weights", "0" * 64, record.size))


@pytest.mark.parametrize(("name", "value"), [("_SETTLED", 2 * 10**9), ("LARGE", 8)])
def test_new_and_small_files_are_not_remembered(
    name: str, value: int, root: Path, record: FileRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one may change again without another time."""
    monkeypatch.setattr(verified_files, name, value)
    assert [num_hashed(root, record) for _ in range(2)] == [1, 1]
    assert places() == []


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    root: Path, record: FileRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_hash = file_records._sha256_of

    def hash_and_touch(path: Path) -> str:
        found = really_hash(path)
        os.utime(path, ns=(0, 0))
        return found

    monkeypatch.setattr(file_records, "_sha256_of", hash_and_touch)
    verify_file(root, record)
    assert places() == []


@pytest.mark.parametrize("content", [b"", b"7 0 0 ", b"\xff\xff"])
def test_a_damaged_record_is_replaced(content: bytes, root: Path, record: FileRecord) -> None:
    verify_file(root, record)
    (place,) = places()
    place.write_bytes(content)
    assert [num_hashed(root, record) for _ in range(2)] == [1, 0]


def test_without_a_cache_folder_it_is_read_each_time(root: Path, record: FileRecord) -> None:
    cache_folder().write_bytes(b"a file")
    assert [num_hashed(root, record) for _ in range(2)] == [1, 1]


def test_the_oldest_are_forgotten(root: Path, record: FileRecord) -> None:
    folder = cache_folder() / "verified"
    folder.mkdir(parents=True)
    for i in range(MAX_FILES):
        (folder / f"{i}").touch()
        os.utime(folder / f"{i}", (i, i))
    assert [num_hashed(root, record) for _ in range(2)] == [1, 0]
    assert len(places()) == MAX_FILES // 2 + 1
    assert not (folder / "0").exists()
    assert (folder / f"{MAX_FILES - 1}").exists()


def test_what_is_forgotten_is_read_again(root: Path, record: FileRecord) -> None:
    verify_file(root, record)
    forget_files(root)
    assert num_hashed(root, record) == 1


def test_a_build_reads_its_sources_again(root: Path, record: FileRecord) -> None:
    verify_file(root, record)
    with calls_of("_sha256_of") as calls:
        verify_network(root, [record])
    assert len(calls) == 1


def test_sdrt_verify_reads_everything_again(tmp_path: Path) -> None:
    skip_unless_it_opens("openvino")
    root = write_toy_bundle(tmp_path / "toy")
    size = ["--width", "64", "--height", "64", "--steps", "1", "-o", str(tmp_path / "a.png")]
    assert main(["run", str(root), "a star", "--target", "cpu", *size]) == 0
    remembered = {place.name for place in places()}
    assert remembered
    with calls_of("_sha256_of") as calls:
        main(["verify", str(root), "--target", "openvino"])
    assert len(calls) >= len(remembered)
