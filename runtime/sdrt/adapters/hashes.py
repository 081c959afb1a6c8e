"""The hashes that other programs know a file by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sdrt.adapters.safetensors import SafetensorsFile

_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Hashes:
    """Hashes of a whole file and of its tensors alone, which renaming and comments do not change.

    Source: AUTOMATIC1111's `modules/hashes.py`; Civitai calls the short ones AutoV2 and AutoV3.
    """

    sha256: str
    tensors_sha256: str  # without the header

    @property
    def autov2(self) -> str:
        """A1111's short hash of checkpoints and VAEs."""
        return self.sha256[:10]

    @property
    def autov3(self) -> str:
        """A1111's short hash of LoRAs."""
        return self.tensors_sha256[:12]


def hashes_of(file: SafetensorsFile) -> Hashes:
    """Both hashes, in one pass. FileError if the file has changed since it was opened."""
    whole, tensors = hashlib.sha256(), hashlib.sha256()
    with file.opened() as opened:
        whole.update(opened.read(file.data_begin))
        while chunk := opened.read(_CHUNK):
            whole.update(chunk)
            tensors.update(chunk)
    return Hashes(whole.hexdigest(), tensors.hexdigest())
