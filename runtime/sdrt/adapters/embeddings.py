"""Textual inversions: vectors that a text encoder reads in place of a new token.

Source: Gal et al. 2022, https://arxiv.org/abs/2208.01618.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from sdrt.adapters.found import EmbeddingFile
from sdrt.adapters.hashes import hashes_of
from sdrt.adapters.number_types import Array
from sdrt.adapters.recognition import recognised
from sdrt.adapters.safetensors import SafetensorsFile
from sdrt.adapters.uses import refusal_as
from sdrt.errors import FileError, quoted


@dataclass(frozen=True, eq=False)
class Embedding:
    """The vectors of an embedding by text encoder, (V, D) float32, and the token for them."""

    token: str
    path: Path
    vectors: tuple[Array, ...]
    sha256: str  # of the file

    @property
    def tokens(self) -> tuple[str, ...]:
        """A token for each vector, named as in diffusers: `name`, `name_1`, `name_2`…"""
        count = len(self.vectors[0])
        return (self.token, *(f"{self.token}_{number}" for number in range(1, count)))


def embedding_from_file(path: str | PathLike[str], token: str | None = None) -> Embedding:
    """The embedding in a safetensors file, for `token`: by default the one that the file names, or
    else the file's name without suffix.

    FileError if the file is broken or anything else, or its numbers are not finite.
    """
    file = SafetensorsFile.open(path)
    found = recognised(file)
    if not isinstance(found, EmbeddingFile):
        raise FileError(refusal_as(file.path, found, "an embedding"))
    vectors = tuple(_vectors(file, key) for key in found.keys)
    counts = {len(each) for each in vectors}
    if len(counts) > 1:
        raise FileError(
            f"'{file.path}' has {' and '.join(str(len(each)) for each in vectors)} vectors for the "
            "text encoders, expected as many for each: download it again"
        )
    return Embedding(
        token=found.token or file.path.stem if token is None else token,
        path=file.path,
        vectors=vectors,
        sha256=hashes_of(file).sha256,
    )


def _vectors(file: SafetensorsFile, key: str) -> Array:
    values = file.read(key)
    if values.dtype != np.float32:
        raise FileError(f"{file.path}: {quoted(key)} has {values.dtype} numbers, expected floats")
    if not values.size:
        raise FileError(f"{file.path}: {quoted(key)} is empty, expected vectors: download it again")
    if not np.isfinite(values).all():
        raise FileError(
            f"{file.path}: {quoted(key)} has numbers that are NaN or infinite: download it again, "
            "or train it again"
        )
    return values.reshape(-1, values.shape[-1])
