"""The weights of a model, read from safetensors one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from sdrt_export.errors import CheckpointError

# Parts of names in old checkpoints, by those of today; diffusers renames them, too.
_OLD_ATTENTION = {
    ".to_q.": ".query.",
    ".to_k.": ".key.",
    ".to_v.": ".value.",
    ".to_out.0.": ".proj_attn.",
}
# transformers 5 has removed the module, but not its name from checkpoints.
_REMOVED_PREFIX = "text_model."
_TYPES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


@dataclass(frozen=True)
class Place:
    """A tensor of a safetensors file."""

    file: Path
    key: str
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class StoredWeights(Mapping[str, torch.Tensor]):
    """Weights as they are stored, by their names in the model. Each access reads the file."""

    title: str  # of the model, in errors
    places: Mapping[str, Place]

    def __getitem__(self, name: str) -> torch.Tensor:
        place = self.places[name]
        try:
            # Opened for each tensor: a file that stays open keeps what was read in memory.
            with safe_open(place.file, "pt") as file:
                tensor = file.get_tensor(place.key)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{self.title} does not load: {error}") from error
        assert isinstance(tensor, torch.Tensor)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def stored_weights(
    title: str, files: Sequence[Path], shapes: Mapping[str, torch.Size]
) -> StoredWeights:
    """The weights of these names in `files`. Only headers are read.

    CheckpointError, which begins with `title`, if one is missing, is not of that shape, or does not
    consist of floating-point numbers.
    """
    try:
        stored = {place.key: place for file in files for place in _places_in(file)}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{title} does not load: {error}") from error
    keys = {name: [key for key in _keys(name) if key in stored] for name in shapes}
    missing = sorted(name for name, found in keys.items() if not found)
    if missing:
        raise CheckpointError(lack_of_weights(title, missing))
    places = {name: stored[found[0]] for name, found in keys.items()}
    for name, place in places.items():
        _check(title, name, place, shapes[name])
    return StoredWeights(title, places)


def lack_of_weights(title: str, missing: Sequence[str]) -> str:
    """The message for a model whose files lack these weights."""
    return (
        f"{title} lacks {len(missing)} weights, the first is {missing[0]}: save or download it "
        "again"
    )


def _places_in(file: Path) -> Iterator[Place]:
    with safe_open(file, "pt") as opened:
        for key in opened.keys():  # noqa: SIM118 - it is not a dict
            header = opened.get_slice(key)
            yield Place(file, key, header.get_dtype(), tuple(header.get_shape()))


def _keys(name: str) -> Iterator[str]:
    """The names that a weight may have in a file, best first."""
    yield name
    yield _REMOVED_PREFIX + name
    for new, old in _OLD_ATTENTION.items():
        yield name.replace(new, old)


def _check(title: str, name: str, place: Place, shape: Sequence[int]) -> None:
    wrong = None
    if place.shape != tuple(shape):
        wrong = f"of shape {list(place.shape)}, expected {list(shape)} from the configuration"
    elif place.type not in _TYPES:
        wrong = f"of type {place.type}, expected one of {', '.join(_TYPES)}"
    if wrong:
        raise CheckpointError(
            f"{title} does not load: {name} is {wrong}: save or download it again"
        )
