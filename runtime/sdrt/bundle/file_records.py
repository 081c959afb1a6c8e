"""Records a file's size and hash, and verifies them later."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from sdrt.bundle.manifest import ENGINES, FileRecord
from sdrt.errors import BundleError

_LARGE = 1 << 26  # bytes: larger files are hashed in a thread


def record_file(root: Path, path: str | PurePath) -> FileRecord:
    """The record of the file at `path`, relative to `root` or inside it."""
    full = root / path
    relative = full.relative_to(root).as_posix()
    return FileRecord(relative, _sha256_of(full), full.stat().st_size)


def verify_file(root: Path, record: FileRecord) -> Path:
    """The path of the file, after comparing it with its record.

    BundleError if it is missing, lies outside `root` (a symlink can lead there), or has another
    size or hash. Without a hash in the record, the file only has to exist.
    """
    path = root / record.path
    built = record.path.startswith(f"{ENGINES}/")
    remedy = "run `sdrt build` again" if built else "export it again"
    try:
        if not path.is_file():
            raise BundleError(f"{path}: this file of the bundle is missing: {remedy}")
        if record.sha256 is not None:
            _compare(path, root, record.sha256, record.size, remedy)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    return path


@contextmanager
def verified_meanwhile(root: Path, records: Iterable[FileRecord]) -> Iterator[None]:
    """Verifies files while the block loads them: small ones before, large ones in parallel.

    BundleError if a file does not match its record; it replaces any error of the block.
    """
    large = []
    for record in records:
        if record.size > _LARGE:
            large.append(record)
        else:
            verify_file(root, record)
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


def _compare(path: Path, root: Path, sha256: str, size: int, remedy: str) -> None:
    if not path.resolve().is_relative_to(root.resolve()):
        raise BundleError(
            f"{path}: leads out of the bundle, to {path.resolve()}: put the file itself there"
        )
    got_size = path.stat().st_size  # immediate; hashing takes seconds
    if got_size != size:
        raise BundleError(f"{path}: got {got_size} bytes, expected {size}: {remedy}")
    got = _sha256_of(path)
    if got != sha256:
        raise BundleError(
            f"{path}: the file has changed: got sha256 {got}, expected {sha256}: {remedy}"
        )


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # reads in chunks
