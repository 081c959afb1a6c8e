"""The changes of a checkpoint's models by a LoRA: all that are in its file, or an error."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from sdrt.adapters.lora import Lora
from sdrt.adapters.lora_deltas import deltas_from_roles
from sdrt.adapters.lora_keys import PEFT
from sdrt.adapters.lora_layers import DAMAGED, LayerDelta
from sdrt.adapters.lora_places import Module, Shapes, places_of, remedy_for
from sdrt.adapters.peft_config import CONFIG_NAME, PeftConfig, config_next_to, configs_in_metadata
from sdrt.errors import FileError, quoted

Deltas: TypeAlias = Mapping[str, LayerDelta]  # by the names of the weights that they change


def changes_of(lora: Lora, models: Mapping[str, Shapes]) -> Mapping[str, Deltas]:
    """The changes of the models by the LoRA. They are named as their folders are: "unet".

    FileError if a layer is missing there or has another size: then nothing may be applied.
    """
    configs = _configs(lora, models)
    changes: dict[str, dict[str, LayerDelta]] = {}
    for layer, modules in places_of(lora, models).items():
        candidates = [_change(lora, layer, module, configs.get(module.part)) for module in modules]
        change = _fitting(lora, layer, candidates, models)
        own = changes.setdefault(change.part, {})
        if twice := own.keys() & change.deltas.keys():
            raise FileError(
                f"'{lora.file.path}' changes {change.part}.{min(twice)} twice, under two keys: "
                f"{DAMAGED}"
            )
        own |= change.deltas
    return changes


@dataclass(frozen=True)
class _Change:
    """The changes of a module's weights by a layer."""

    part: str
    deltas: Deltas

    def misfit(self, shapes: Shapes) -> str | None:
        """The weight that is missing, or has another size."""
        for name, delta in self.deltas.items():
            if name not in shapes or not delta.fits(shapes[name]):
                return name
        return None


def _change(lora: Lora, layer: str, module: Module, config: PeftConfig | None) -> _Change:
    ratio = partial(_ratio, lora, layer, module.name, config)
    deltas = deltas_from_roles(layer, lora.layers[layer], ratio)
    return _Change(module.part, {f"{module.name}.{kind}": deltas[kind] for kind in deltas})


def _fitting(
    lora: Lora, layer: str, candidates: Sequence[_Change], models: Mapping[str, Shapes]
) -> _Change:
    """The only candidate whose sizes are those of its model."""
    fitting = [each for each in candidates if each.misfit(models[each.part]) is None]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        parts = " and ".join(each.part for each in fitting)
        raise FileError(
            f"{lora.file.path}: the layer {quoted(layer)} is in {parts}, and the file does not say "
            "which of them it is for: use one whose keys begin with the name of the model"
        )
    part, shapes = candidates[0].part, models[candidates[0].part]
    name = candidates[0].misfit(shapes)
    assert name is not None, "else it would fit"
    size = list(candidates[0].deltas[name].update.shape)
    there = f"has the shape {list(shapes[name])}" if name in shapes else "is not there"
    raise FileError(
        f"'{lora.file.path}' changes {part}.{name} by a tensor of the shape {size}, but in the "
        f"checkpoint it {there}: {remedy_for(lora)}"
    )


def _configs(lora: Lora, models: Collection[str]) -> dict[str, PeftConfig]:
    """peft's configurations for the models, if there are any."""
    of_peft = any(layer.startswith(PEFT) for layer in lora.layers)
    config = config_next_to(lora.file.path) if of_peft else None
    common = {} if config is None else dict.fromkeys(models, config)
    return common | configs_in_metadata(lora.file.path, lora.file.metadata)


def _ratio(lora: Lora, layer: str, module: str, config: PeftConfig | None, rank: int) -> float:
    """alpha / rank; 1 if nothing says alpha, as in diffusers and kohya's scripts."""
    alpha = lora.layers[layer].get("alpha")
    if alpha is not None:
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
            f"'{lora.file.path}' was saved by peft, which writes the strength of its layers into "
            f"{CONFIG_NAME}: put that file into the same folder"
        )
    return 1.0
