"""LoRA files: what they change in the models of a checkpoint, by the models' own names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike

from sdrt.adapters import cloneofsimo
from sdrt.adapters.lora_deltas import Roles
from sdrt.adapters.lora_keys import Key, key_from_text, unsupported_kind
from sdrt.adapters.lora_layers import StoredTensor
from sdrt.adapters.safetensors import SafetensorsFile
from sdrt.errors import FileError, quoted


@dataclass(frozen=True)
class LoraFile:
    """A file whose keys are all those of a LoRA, before it is known which model it is for.

    `layers` are the tensors of each layer, by their roles.
    """

    file: SafetensorsFile
    layers: Mapping[str, Roles]

    @classmethod
    def open(cls, path: str | PathLike[str]) -> LoraFile:
        """The LoRA at `path`, of which only the header is read.

        FileError if it is not a LoRA, is of a kind that is not supported, or has other keys, too.
        """
        file = SafetensorsFile.open(path)
        layers: dict[str, dict[str, StoredTensor]] = {}
        others = []
        for text in file.tensors:
            key = _key(text)
            if key is None or key.role in layers.setdefault(key.layer, {}):
                others.append(text)
            else:
                layers[key.layer][key.role] = StoredTensor(file, text)
        if others or not layers:
            raise FileError(f"{file.path}: {_refusal(others, len(file.tensors))}")
        return cls(file, layers)

    def check_values(self) -> None:
        """FileError if a number is NaN or infinite. Reads the whole file."""
        for roles in self.layers.values():
            for tensor in roles.values():
                tensor.read()


def _key(text: str) -> Key | None:
    if numbered := cloneofsimo.KEY.fullmatch(text):
        return Key(numbered[1], numbered[2])
    return None if unsupported_kind(text) else key_from_text(text)


def _refusal(others: list[str], total: int) -> str:
    """What to say of a file with keys that are not those of a LoRA."""
    kinds = {kind for key in others if (kind := unsupported_kind(key))}
    if kinds:
        return (
            f"is of the kind {' and '.join(sorted(kinds))}, which sdrt does not merge; it merges "
            "LoRA, LoHa, LoKr, DoRA and differences of weights"
        )
    if len(others) == total:
        return "is not a LoRA: `sdrt inspect FILE` says what it is"
    return (
        f"{len(others)} of its {total} keys are not those of a LoRA ({listed(others)}), so it is "
        "not applied at all"
    )


def listed(keys: list[str]) -> str:
    """The first keys, and how many more there are."""
    shown = ", ".join(quoted(key) for key in keys[:10])
    return f"{shown} and {len(keys) - 10} more" if len(keys) > 10 else shown
