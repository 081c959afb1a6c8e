"""LoRA files, read so that each tensor has a role in a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike

from sdrt.adapters.found import LoraFile
from sdrt.adapters.lora_deltas import Roles
from sdrt.adapters.lora_keys import key_from_text
from sdrt.adapters.lora_layers import StoredTensor
from sdrt.adapters.recognition import recognised
from sdrt.adapters.safetensors import SafetensorsFile
from sdrt.adapters.uses import refusal_as
from sdrt.errors import FileError, quoted

_ADDITIVE = ("LoRA", "LoHa", "LoKr", "DoRA", "full weights")  # methods that change weights
_SHOWN = 10  # keys in a message


@dataclass(frozen=True)
class Lora:
    """A LoRA file whose keys are understood, before it is known which model it is for.

    `layers` are the tensors of each layer, by their roles.
    """

    file: SafetensorsFile
    found: LoraFile
    layers: Mapping[str, Roles]

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Lora:
        """The LoRA at `path`, of which only the header is read.

        FileError if it is not a LoRA, is of a kind that is not supported, or has other keys, too.
        """
        file = SafetensorsFile.open(path)
        found = recognised(file)
        if not isinstance(found, LoraFile):
            raise FileError(refusal_as(file.path, found, "a LoRA"))
        others = [method for method in found.methods if method not in _ADDITIVE]
        if others:
            raise FileError(
                f"'{file.path}' is of the kind {' and '.join(others)}, which sdrt does not read: "
                f"it reads {', '.join(_ADDITIVE)}"
            )
        return cls(file, found, _layers_of(file))

    def check_values(self) -> None:
        """FileError if a number is NaN or infinite. Reads the whole file."""
        for roles in self.layers.values():
            for tensor in roles.values():
                tensor.read()


def _layers_of(file: SafetensorsFile) -> dict[str, dict[str, StoredTensor]]:
    layers: dict[str, dict[str, StoredTensor]] = {}
    others = []
    for text in file.tensors:
        key = key_from_text(text)
        if key is None or key.role in layers.setdefault(key.layer, {}):
            others.append(text)
        else:
            layers[key.layer][key.role] = StoredTensor(file, text)
    if others:
        raise FileError(
            f"{file.path}: {len(others)} of its {len(file.tensors)} keys are not those of a LoRA "
            f"({listed(others)}), so it is not applied at all: use a file without them"
        )
    return layers


def listed(keys: Sequence[str]) -> str:
    """The first keys, and how many more there are."""
    shown = ", ".join(quoted(key) for key in keys[:_SHOWN])
    return f"{shown} and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else shown
