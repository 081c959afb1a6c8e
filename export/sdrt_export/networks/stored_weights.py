"""The weights of a model, read from safetensors one at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from sdrt_export.checkpoints.original.names import Key, Names, same_names
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
    """A weight in a safetensors file."""

    file: Path
    key: Key
    type: str
    shape: tuple[int, ...]  # of the weight


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
                tensor = file.get_tensor(place.key.key)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{self.title} does not load: {error}") from error
        return _weight_in(tensor, place)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def _weight_in(tensor: torch.Tensor, place: Place) -> torch.Tensor:
    """The weight that a tensor of the file holds: all of it, or one of three parts."""
    if place.key.third is not None:
        tensor = tensor.chunk(3)[place.key.third].clone()
    if place.key.transposed:
        tensor = tensor.T.contiguous()
    return tensor.reshape(place.shape)  # the matrix of a 1×1 convolution


def stored_weights(
    title: str,
    files: Sequence[Path],
    shapes: Mapping[str, torch.Size],
    names: Names | None = None,
) -> StoredWeights:
    """The weights of these names in `files`, whose keys are `names`. Only headers are read.

    CheckpointError, which begins with `title`, if one is missing, is not of that shape, or does not
    consist of floating-point numbers, or if `names` has one that is not among them.
    """
    try:
        stored = {name: place for file in files for name, place in _places_in(file, names)}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{title} does not load: {error}") from error
    keys = {name: [key for key in _keys(name) if key in stored] for name in shapes}
    missing = sorted(name for name, found in keys.items() if not found)
    if missing:
        raise CheckpointError(lack_of_weights(title, missing))
    if names is not None:
        _require_all_used(title, names, {found[0] for found in keys.values()})
    places = {name: _as_matrix(stored[keys[name][0]], shape) for name, shape in shapes.items()}
    for name, place in places.items():
        _check(title, name, place, shapes[name])
    return StoredWeights(title, places)


def _require_all_used(title: str, names: Collection[str], used: Collection[str]) -> None:
    others = sorted(set(names) - set(used))
    if others:
        raise CheckpointError(
            f"{title} has {len(others)} weights that its configuration has no layers for, the "
            f"first is {others[0]}: it is of an architecture that sdrt does not export"
        )


def _as_matrix(place: Place, shape: Sequence[int]) -> Place:
    """A 1×1 convolution as the linear layer that it equals: in the attention of old VAEs."""
    if place.shape == (*shape, 1, 1):
        return replace(place, shape=tuple(shape))
    return place


def lack_of_weights(title: str, missing: Sequence[str]) -> str:
    """The message for a model whose files lack these weights."""
    return (
        f"{title} lacks {len(missing)} weights, the first is {missing[0]}: save or download it "
        "again"
    )


def _places_in(file: Path, names: Names | None) -> Iterator[tuple[str, Place]]:
    with safe_open(file, "pt") as opened:
        for name, key in (same_names(opened.keys()) if names is None else names).items():
            if key.file not in (None, str(file)):
                continue
            header = opened.get_slice(key.key)
            shape = key.shape(tuple(header.get_shape()))
            yield name, Place(file, key, header.get_dtype(), shape)


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
