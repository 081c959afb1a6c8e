"""The layers of a LoRA file, found among the modules of a checkpoint's models by their names."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from sdrt.adapters.cloneofsimo import numbered_modules
from sdrt.adapters.found import FAMILY_TITLES
from sdrt.adapters.lora import Lora, listed
from sdrt.adapters.lora_keys import spelling_of
from sdrt.adapters.lora_layers import Shape
from sdrt.adapters.module_names import flat_spellings, spellings
from sdrt.errors import FileError
from sdrt.tensor_names import TEXT_ENCODER, UNET

Shapes: TypeAlias = Mapping[str, Shape]  # of a model's weights, by their names


class Module(NamedTuple):
    """A module of one of the models."""

    part: str  # the model: "unet"
    name: str


def places_of(lora: Lora, models: Mapping[str, Shapes]) -> dict[str, list[Module]]:
    """The modules that each layer may be: several if the file does not name the models.

    FileError if a layer is nowhere.
    """
    names = {part: {weight.rpartition(".")[0] for weight in models[part]} for part in models}
    dotted = {part: spellings(modules) for part, modules in names.items()}
    flat = {part: flat_spellings(modules) for part, modules in names.items()}
    numbered: dict[str, Module] = {}
    for part in {UNET, TEXT_ENCODER} & {*models}:
        numbered |= _numbered(lora, part, models[part], names[part])

    def places(layer: str) -> Iterator[Module]:
        if layer in numbered:
            yield numbered[layer]
        spelling = spelling_of(layer)
        for part in spelling.parts:
            known = (flat if spelling.flat else dotted).get(part, {})
            if spelling.name in known:
                yield Module(part, known[spelling.name])

    found = {layer: list(places(layer)) for layer in lora.layers}
    if missing := [layer for layer, modules in found.items() if not modules]:
        raise FileError(_refusal(lora, missing, models))
    return found


def _numbered(lora: Lora, part: str, shapes: Shapes, names: Collection[str]) -> dict[str, Module]:
    """The modules of layers that have numbers, in the first order that their sizes fit."""
    layers = [layer for layer in lora.layers if layer.startswith(f"{part}:")]
    layers.sort(key=lambda layer: int(layer.partition(":")[2]))

    def fits(layer: str, module: str) -> bool:
        roles, shape = lora.layers[layer], shapes[f"{module}.weight"]
        sizes = [roles[role].shape for role in ("up", "down") if role in roles]
        return [sizes[0][:1], sizes[-1][1:]] == [shape[:1], (math.prod(shape[1:]),)]

    for order in numbered_modules(part, names):
        if len(order) == len(layers) and all(map(fits, layers, order)):
            return {
                layer: Module(part, module) for layer, module in zip(layers, order, strict=True)
            }
    return {}


def _refusal(lora: Lora, missing: Sequence[str], models: Collection[str]) -> str:
    """The message for layers that are nowhere in the models."""
    absent = [layer for layer in missing if not {*spelling_of(layer).parts} & {*models}]
    if absent:
        parts = sorted({part for layer in absent for part in spelling_of(layer).parts})
        what = f"changes {' and '.join(parts)}, which the checkpoint does not have"
    else:
        what = f"has {len(lora.layers)} layers, of which the checkpoint lacks {len(missing)}"
    return (
        f"'{lora.file.path}' {what} ({listed(absent or missing)}), so it is not applied at all: "
        f"{remedy_for(lora)}"
    )


def remedy_for(lora: Lora) -> str:
    """The remedy for a LoRA that does not fit the models."""
    family = FAMILY_TITLES[lora.found.family]
    return f"use it with the kind of checkpoint that it was trained for ({family})"
