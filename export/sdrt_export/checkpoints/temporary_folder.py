"""A folder for files that are only needed as long as a checkpoint is used."""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path
from tempfile import mkdtemp


class TemporaryFolder:
    """A new folder, which is removed with the last reference to this object."""

    def __init__(self) -> None:
        self.path = Path(mkdtemp(prefix="sdrt-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
