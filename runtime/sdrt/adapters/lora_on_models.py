"""The layers of a LoRA file found in the models of a checkpoint: all of them, or an error."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from sdrt.adapters.cloneofsimo import numbered_modules
from sdrt.adapters.lora import LoraFile, listed
from sdrt.adapters.lora_deltas import deltas_from_roles
from sdrt.adapters.lora_keys import PEFT, spelling_of
from sdrt.adapters.lora_layers import DAMAGED, LayerDelta, Shape
from sdrt.adapters.module_names import flat_spellings, spellings
from sdrt.adapters.peft_config import CONFIG_NAME, PeftConfig, config_next_to, configs_in_metadata
from sdrt.errors import FileError, quoted
from sdrt.tensor_names import TEXT_ENCODER, UNET

Shapes: TypeAlias = Mapping[str, Shape]  # of a model's weights, by their names
Deltas: TypeAlias = Mapping[str, LayerDelta]  # likewise
Module: TypeAlias = tuple[str, str]  # the name of a model, and the module's name in it


def changes_of(lora: LoraFile, models: Mapping[str, Shapes]) -> dict[str, Deltas]:
    """What the LoRA changes in the models, which are named as their folders are: "unet".

    FileError if a layer is missing there or has another size: then nothing may be applied.
    """
    configs = _configs(lora, models)
    changes: dict[str, dict[str, LayerDelta]] = {}
    for layer, modules in _modules_of(lora, models).items():
        part, deltas = _the_fitting(lora, layer, modules, models, configs)
        own = changes.setdefault(part, {})
        if twice := own.keys() & deltas.keys():
            raise FileError(
                f"{lora.file.path}: changes {part}.{min(twice)} twice, in two spellings: {DAMAGED}"
            )
        own |= deltas
    return {part: deltas for part, deltas in changes.items()}


# --- which modules a layer may be


def _modules_of(lora: LoraFile, models: Mapping[str, Shapes]) -> dict[str, list[Module]]:
    """The modules that each layer may be, by their names: usually one."""
    modules = {part: {name.rpartition(".")[0] for name in models[part]} for part in models}
    dotted = {part: spellings(names) for part, names in modules.items()}
    flat = {part: flat_spellings(names) for part, names in modules.items()}
    numbered = {
        layer: (part, module)
        for part in (UNET, TEXT_ENCODER)
        for layer, module in _numbered(lora, part, models.get(part, {})).items()
    }

    def candidates(layer: str) -> Iterator[Module]:
        if layer in numbered:
            yield numbered[layer]
            return
        spelling = spelling_of(layer)
        for part in spelling.parts:
            names = (flat if spelling.flat else dotted).get(part, {})
            if spelling.name in names:
                yield part, names[spelling.name]

    found = {layer: list(candidates(layer)) for layer in lora.layers}
    if missing := [layer for layer, places in found.items() if not places]:
        raise FileError(f"{lora.file.path}: {_refusal_of_layers(missing, lora, models)}")
    return found


def _numbered(lora: LoraFile, part: str, shapes: Shapes) -> dict[str, str]:
    """The modules of layers that have numbers, in the first order that their sizes fit."""
    layers = [layer for layer in lora.layers if layer.startswith(f"{part}:")]
    layers.sort(key=lambda layer: int(layer.partition(":")[2]))

    def fits(layer: str, module: str) -> bool:
        roles, shape = lora.layers[layer], shapes[f"{module}.weight"]
        sizes = roles["up"].rows, roles["down"].columns
        return sizes == (shape[0], math.prod(shape[1:]))

    names = {name.rpartition(".")[0] for name in shapes}
    for order in numbered_modules(part, names):
        if len(order) == len(layers) and all(map(fits, layers, order)):
            return dict(zip(layers, order, strict=True))
    return {}


def _refusal_of_layers(missing: Sequence[str], lora: LoraFile, models: Collection[str]) -> str:
    absent = [layer for layer in missing if not {*spelling_of(layer).parts} & {*models}]
    if absent:
        names = sorted({part for layer in absent for part in spelling_of(layer).parts})
        return (
            f"changes {' and '.join(names)}, which this checkpoint does not have "
            f"({listed(absent)}): export the kind of checkpoint that it was trained for"
        )
    return (
        f"{len(missing)} of its {len(lora.layers)} layers are not in this checkpoint "
        f"({listed(missing)}), so it is not applied at all: export the kind of checkpoint that it "
        "was trained for"
    )


# --- what a layer does there


def _the_fitting(
    lora: LoraFile,
    layer: str,
    modules: Sequence[Module],
    models: Mapping[str, Shapes],
    configs: Mapping[str, PeftConfig],
) -> tuple[str, Deltas]:
    """The model and the changes of the only module of the right size."""
    roles, misfits, fitting = lora.layers[layer], [], []
    for part, module in modules:
        ratio = partial(_ratio, lora, layer, module, configs.get(part))
        found = deltas_from_roles(layer, roles, ratio)
        deltas = {f"{module}.{name}": delta for name, delta in found.items()}
        wrong = [name for name in deltas if not _fits(deltas[name], models[part].get(name))]
        misfits += [(part, name, deltas[name]) for name in wrong]
        if not wrong:
            fitting.append((part, deltas))
    if not fitting:
        part, name, delta = misfits[0]
        shape = models[part].get(name)
        there = "does not have" if shape is None else f"has in the shape {list(shape)}"
        raise FileError(
            f"{lora.file.path}: changes {part}.{name} by {list(delta.update.shape)}, which this "
            f"checkpoint {there}: export the kind of checkpoint that it was trained for"
        )
    if len(fitting) > 1:
        raise FileError(
            f"{lora.file.path}: {quoted(layer)} may be a layer of {' or of '.join(p for p, _ in fitting)}:"
            " use a file whose keys begin with the names of models"
        )
    return fitting[0]


def _fits(delta: LayerDelta, shape: Shape | None) -> bool:
    return shape is not None and delta.fits(shape)


def _configs(lora: LoraFile, models: Collection[str]) -> dict[str, PeftConfig]:
    """peft's configurations for the models, where there are some."""
    of_peft = any(layer.startswith(PEFT) for layer in lora.layers)
    next_to_it = config_next_to(lora.file.path) if of_peft else None
    common = {} if next_to_it is None else dict.fromkeys(models, next_to_it)
    return common | configs_in_metadata(lora.file.path, lora.file.metadata)


def _ratio(lora: LoraFile, layer: str, module: str, config: PeftConfig | None, rank: int) -> float:
    """alpha / rank; 1 where nothing says alpha, as diffusers and kohya take it."""
    roles = lora.layers[layer]
    if "alpha" in roles:
        alpha = roles["alpha"]
        if alpha.size != 1:
            raise FileError(
                f"{lora.file.path}: {quoted(alpha.name)} has the shape {list(alpha.shape)}, "
                f"expected a number: {DAMAGED}"
            )
        return float(alpha.read().item()) / rank
    if config is not None:
        return config.ratio(module, rank)
    if layer.startswith(PEFT):
        raise FileError(
            f"{lora.file.path}: was saved by peft, which writes the strength into {CONFIG_NAME}: "
            "put that file next to it"
        )
    return 1.0
