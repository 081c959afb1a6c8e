"""LoRA files for the tests: seeded layers, and the layouts in which trainers write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from support.weights_files import write_weights

Array: TypeAlias = npt.NDArray[Any]
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layer:
    """A layer of a LoRA: part and module by diffusers' names, `alpha` None where it is the rank."""

    part: str
    module: str
    down: Array
    up: Array
    alpha: float | None = None

    @property
    def rank(self) -> int:
        return len(self.down)

    def added(self) -> Array:
        """The change of the weight at scale 1: one matrix product for each place of a kernel."""
        strength = 1.0 if self.alpha is None else self.alpha / self.rank
        if self.down.ndim == 2:
            return strength * self.up @ self.down
        up = self.up[:, :, 0, 0]
        places = [[up @ column for column in row] for row in self.down.transpose(2, 3, 0, 1)]
        return strength * np.array(places).transpose(2, 3, 0, 1)


def layer_for(
    part: str, module: str, shape: tuple[int, ...], rank: int, alpha: float | None = None
) -> Layer:
    """A layer for a weight of that shape, seeded by its name."""
    random = np.random.default_rng([*f"{part}.{module}".encode(), rank])
    ones = (1,) * (len(shape) - 2)
    down, up = (
        random.standard_normal(size).astype(np.float32)
        for size in ((rank, *shape[1:]), (shape[0], rank, *ones))
    )
    return Layer(part, module, down / 4, up / 4, alpha)


def layers_for(
    part: str,
    shapes: Shapes,
    modules: Iterable[str],
    strengths: Sequence[tuple[int, float | None]] = ((2, 1.0), (3, None), (1, 0.25), (4, 6.0)),
) -> list[Layer]:
    """Layers for these modules of a model; each next one has the next rank and alpha."""
    return [
        layer_for(part, module, shapes[f"{module}.weight"], *strength)
        for module, strength in zip(modules, cycle(strengths), strict=False)
    ]


# --- layouts: the tensors of a layer by their keys


def kohya(layer: Layer, names: Mapping[str, str] | None = None) -> dict[str, Array]:
    """kohya's sd-scripts; `names` are the prefixes of text encoders in files for SDXL."""
    prefix = {"unet": "lora_unet", "text_encoder": "lora_te", **(names or {})}[layer.part]
    key = f"{prefix}_{layer.module.replace('.', '_')}"
    tensors = {f"{key}.lora_down.weight": layer.down, f"{key}.lora_up.weight": layer.up}
    return tensors | _alpha(f"{key}.alpha", layer)


def kohya_xl(layer: Layer) -> dict[str, Array]:
    return kohya(layer, {"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"})


def diffusers(layer: Layer) -> dict[str, Array]:
    """diffusers since 0.22, which has no alphas."""
    key = f"{layer.part}.{layer.module}"
    return {f"{key}.lora_A.weight": layer.down, f"{key}.lora_B.weight": layer.up}


def diffusers_old(layer: Layer) -> dict[str, Array]:
    """diffusers' attention processors."""
    attention, _, linear = layer.module.removesuffix(".0").rpartition(".")
    if layer.part == "unet":
        key = f"unet.{attention}.processor.{linear}_lora"
    else:
        key = f"{layer.part}.{layer.module}.lora_linear_layer"
    return {f"{key}.down.weight": layer.down, f"{key}.up.weight": layer.up}


def peft(layer: Layer) -> dict[str, Array]:
    """peft's save_pretrained."""
    key = f"base_model.model.{layer.module}"
    return {f"{key}.lora_A.weight": layer.down, f"{key}.lora_B.weight": layer.up}


def _alpha(key: str, layer: Layer) -> dict[str, Array]:
    return {} if layer.alpha is None else {key: np.array(layer.alpha, np.float32)}


def write_lora(
    path: Path,
    layers: Iterable[Layer],
    layout: Callable[[Layer], Mapping[str, Array]] = kohya,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Writes a LoRA file in that layout."""
    tensors = {key: tensor for layer in layers for key, tensor in layout(layer).items()}
    return write_weights(path, tensors, metadata=metadata)
