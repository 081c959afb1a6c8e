"""Takes down what a file is, and says later whether it still is that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from sdrt.bundle.manifest import ENGINES, FileRecord
from sdrt.errors import BundleError

_LARGE = 1 << 26  # bytes: what takes a thread of its own to read


def record_file(root: Path, path: str | PurePath) -> FileRecord:
    """The record of the file at `path`, which is relative to `root` or inside it."""
    full = root / path
    relative = full.relative_to(root).as_posix()
    return FileRecord(relative, _sha256_of(full), full.stat().st_size)


def verify_file(root: Path, record: FileRecord) -> Path:
    """Where the file is, once it is known to be the recorded one.

    BundleError when it is missing, lies outside `root` (a symlink can lead there), or has another
    size or hash. A record without a hash is believed when the file exists.
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
    """Verifies files while the block loads them: small ones before, large ones meanwhile.

    BundleError where a file is not the recorded one; it takes the place of what the block raises.
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
    got_size = path.stat().st_size  # at once, where hashing takes seconds
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
