"""Networks whose files are links, as in the Hub's cache, in a folder without links.

Engines refuse weights that a link leads out of the network's folder: OpenVINO, ONNX Runtime 1.24.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sdrt.bundle.manifest import FileRecord
from sdrt.errors import SdrtError
from sdrt.files.cache import cache_folder


@contextmanager
def unlinked(root: Path, files: Sequence[FileRecord]) -> Iterator[Path]:
    """A folder with these files of the bundle at `root`, under the same paths; for the block only.

    It is `root` itself if none is a link, or if the user's cache folder is on another disk: there
    the other folder has second names of the same files, which takes no space.
    """
    paths = {record.path: (root / record.path).resolve() for record in files}
    if not any((root / path).is_symlink() for path in paths):
        yield root
        return
    with ExitStack() as stack:
        folder = root
        with suppress(OSError, SdrtError):  # another disk, or no cache folder
            folder = _folder_of(paths, stack)
        yield folder


def _folder_of(paths: dict[str, Path], stack: ExitStack) -> Path:
    from tempfile import TemporaryDirectory  # not needed for `import sdrt`

    place = cache_folder() / "links"
    place.mkdir(parents=True, exist_ok=True)
    folder = Path(stack.enter_context(TemporaryDirectory(dir=place, ignore_cleanup_errors=True)))
    for path, target in paths.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).hardlink_to(target)
    return folder
