"""The hashes of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from sdrt.adapters.hashes import hashes_of
from sdrt.adapters.safetensors import SafetensorsFile
from sdrt.errors import FileError
from support.weights_files import write_weights


def test_the_tensors_have_a_hash_of_their_own(tmp_path: Path) -> None:
    """A comment in the header changes the file's hash only."""
    numbers = np.arange(1 << 18, dtype=np.float64)  # more than what is read at once
    tensors_sha256 = hashlib.sha256(numbers.tobytes()).hexdigest()
    for metadata in ({}, {"modelspec.title": "renamed"}):
        path = write_weights(tmp_path / "a.safetensors", {"x": numbers}, metadata=metadata)
        hashes = hashes_of(SafetensorsFile.open(path))
        assert hashes.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert hashes.tensors_sha256 == tensors_sha256
        assert hashes.autov2 == hashes.sha256[:10]
        assert hashes.autov3 == tensors_sha256[:12]


def test_a_file_that_has_changed_has_none(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "a.safetensors", {"x": (2,)})
    file = SafetensorsFile.open(path)
    write_weights(path, {"x": (3,)})
    with pytest.raises(FileError, match="has changed since it was opened"):
        hashes_of(file)
