"""Records a file's size and hash, and verifies them later."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath, PurePosixPath

from sdrt.bundle.manifest import ENGINES, FileRecord
from sdrt.bundle.verified_files import is_remembered, remembering
from sdrt.errors import BundleError
from sdrt_engines import data_files_of
from sdrt_engines.operating_system import make_read_only

_LARGE = 1 << 26  # bytes: larger files are hashed in a thread


def record_file(root: Path, path: str | PurePath) -> FileRecord:
    """The record of the file at `path`, relative to `root` or inside it."""
    full = root / path
    relative = full.relative_to(root).as_posix()
    return FileRecord(relative, _sha256_of(full), full.stat().st_size)


def sealed_file(root: Path, path: str | PurePath) -> FileRecord:
    """The record of a new file that engines may map into memory, which becomes read-only.

    It is replaced by renaming another file to its name, never overwritten: a running engine would
    read the new content.
    """
    make_read_only(root / path)
    return record_file(root, path)


def verify_file(root: Path, record: FileRecord, *, hash_again: bool = False) -> Path:
    """The path of the file, after comparing it with its record. A large file that has not changed
    since it was hashed is not hashed again, unless `hash_again`.

    BundleError if it is missing or has another size or hash. A file with that hash may lie anywhere
    (a bundle in the Hub's cache consists of links); one whose hash was not recorded only has to be
    in place.
    """
    path = root / record.path
    remedy = _remedy(record)
    try:
        if not path.is_file():
            raise BundleError(f"{path}: this file of the bundle is missing: {remedy}")
        if record.sha256 is None:
            require_in_place(root, path)
        else:
            _compare_size(path, record.size, remedy)
            if hash_again or not is_remembered(path, record.sha256):
                with remembering(path, record.sha256):
                    _compare_hash(path, record.sha256, remedy)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    return path


def verify_network(root: Path, files: Sequence[FileRecord]) -> None:
    """Verifies the files of a network. BundleError also if it reads weights from any other."""
    for record in files:
        verify_file(root, record, hash_again=True)
    _require_recorded_data(root, files)


def require_in_place(root: Path, path: Path) -> None:
    """BundleError if a link leads from `path` out of the folder `root`, and out of the Hub's cache
    that `root` is in."""
    found, folder = path.resolve(), root.resolve()
    places = [folder]
    if folder.parent.name == "snapshots":  # models--x--y/snapshots/<revision>/ links to blobs/
        places.append(folder.parent.with_name("blobs"))
    if not any(found.is_relative_to(place) for place in places):
        raise BundleError(f"{path}: leads out of the folder, to {found}: put the file itself there")


@contextmanager
def verified_meanwhile(root: Path, files: Sequence[FileRecord]) -> Iterator[None]:
    """Verifies the files of a network while the block loads them: small ones before, large ones in
    parallel.

    BundleError if a file does not match its record, which replaces any error of the block, or if
    the network reads weights from any other file.
    """
    large = [record for record in files if record.size > _LARGE]
    for record in files:
        if record not in large:
            verify_file(root, record)
    _require_recorded_data(root, files)
    if not large:
        yield
        return
    from concurrent.futures import ThreadPoolExecutor  # slow to import

    with ThreadPoolExecutor(1) as pool:
        verified = pool.submit(lambda: [verify_file(root, record) for record in large])
        try:
            yield
        finally:
            verified.result()


def _require_recorded_data(root: Path, files: Iterable[FileRecord]) -> None:
    recorded = {PurePosixPath(record.path) for record in files}
    for record in files:
        if not record.path.endswith(".onnx"):
            continue
        for location in sorted(data_files_of(root / record.path)):
            if PurePosixPath(record.path).parent / location not in recorded:
                raise BundleError(
                    f"{root / record.path}: reads weights from '{location}', which is not recorded "
                    f"as its file: {_remedy(record)}"
                )


def _remedy(record: FileRecord) -> str:
    built = record.path.startswith(f"{ENGINES}/")
    return "run `sdrt build` again" if built else "export it again"


def _compare_size(path: Path, size: int, remedy: str) -> None:
    got = path.stat().st_size  # immediate; hashing takes seconds
    if got != size:
        raise BundleError(f"{path}: got {got} bytes, expected {size}: {remedy}")


def _compare_hash(path: Path, sha256: str, remedy: str) -> None:
    got = _sha256_of(path)
    if got != sha256:
        raise BundleError(
            f"{path}: the file has changed: got sha256 {got}, expected {sha256}: {remedy}"
        )


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # reads in chunks
