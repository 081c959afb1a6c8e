"""The built-in bundle: read from the package, built for targets in a copy in the user's cache.

An installed package may be read-only, and files written into it remain after uninstalling.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
from contextlib import suppress
from pathlib import Path

from sdrt.bundle.file_records import verify_file
from sdrt.bundle.manifest import MANIFEST_NAME, FileRecord, Manifest
from sdrt.errors import BundleError, SdrtError
from sdrt.files.atomic import appearing_file
from sdrt.files.cache import cache_folder, require_writable
from sdrt_engines.operating_system import make_read_only

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parents[1] / "demo_bundle"

_KEY_LENGTH = 16  # hexadecimal digits


def demo_root(manifest: Manifest) -> Path:
    """The copy of the built-in bundle if it is complete, else the package's folder.

    Copies of different versions of the bundle have different names.
    """
    try:
        copy = _copy_folder()
        complete = copy.is_dir() and all(_is_there(copy, record) for record in manifest.all_files)
        return copy if complete and _same_manifest(copy) else DEMO_FOLDER
    except (OSError, SdrtError):  # no home folder, or another user's cache
        return DEMO_FOLDER


def is_demo(root: Path) -> bool:
    """True if `root` is the package's folder or the copy."""
    places = [DEMO_FOLDER]
    with suppress(OSError, SdrtError):
        places.append(_copy_folder())
    return root.resolve() in [place.resolve() for place in places]


def export_with(model: str, root: Path) -> str:
    """The command that adds a model to the bundle at `root`, or to the demo's checkpoint: the
    built-in bundle stays as it is."""
    if is_demo(root):
        return f"sdrt export {DEMO} {model} -o BUNDLE"
    return f"sdrt export {model} --into {shlex.quote(str(root))}"


def copy_of_demo(manifest: Manifest) -> Path:
    """The copy of the built-in bundle, after copying missing and damaged files again.

    SdrtError if the cache cannot be written.
    """
    copy = _copy_folder()
    require_writable(copy)
    for record in manifest.all_files:
        if not _is_whole(copy, record):
            _copy(record.path, copy)
            if record not in manifest.files:
                make_read_only(copy / record.path)  # as exports do: engines map it
    if not _same_manifest(copy):
        _copy(MANIFEST_NAME, copy)
    return copy


def _copy_folder() -> Path:
    digest = hashlib.sha256((DEMO_FOLDER / MANIFEST_NAME).read_bytes()).hexdigest()
    return cache_folder() / DEMO / digest[:_KEY_LENGTH]


def _is_there(folder: Path, record: FileRecord) -> bool:
    path = folder / record.path
    return path.is_file() and path.stat().st_size == record.size


def _is_whole(folder: Path, record: FileRecord) -> bool:
    try:
        verify_file(folder, record)
    except BundleError:
        return False
    return True


def _same_manifest(folder: Path) -> bool:
    manifest = folder / MANIFEST_NAME
    return (
        manifest.is_file() and manifest.read_bytes() == (DEMO_FOLDER / MANIFEST_NAME).read_bytes()
    )


def _copy(path: str, folder: Path) -> None:
    """Copies only the content: a read-only package would give read-only folders."""
    with appearing_file(folder / path) as draft:
        shutil.copyfile(DEMO_FOLDER / path, draft)
