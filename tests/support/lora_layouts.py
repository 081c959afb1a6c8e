"""Names and shapes of LoRAs for whole UNets, as the programs that train them write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from support.model_layouts import Shape, UnetLayout, clip_shapes, unet_shapes
from support.original_names import original_unet

Shapes: TypeAlias = dict[str, Shape]
Names: TypeAlias = Literal["diffusers", "ldm"]

_TRANSFORMER = re.compile(r".*(to_[qkv]|to_out\.0|ff\.net\.0\.proj|ff\.net\.2|proj_in|proj_out)")
_RESNET = re.compile(r".*(conv1|conv2|conv_shortcut|time_emb_proj)")
_TEXT = re.compile(r".*(_proj|fc1|fc2)")


class Layer(NamedTuple):
    """A layer of a UNet or text encoder with a weight of that shape."""

    diffusers: str
    ldm: str
    shape: Shape


def unet_layers(layout: UnetLayout, *, resnets: bool = False) -> Iterator[Layer]:
    """The linear layers and 1×1 convolutions of the transformers, and those of resnets."""
    shapes = unet_shapes(layout)
    for (key, shape), original in zip(shapes.items(), original_unet(shapes), strict=True):
        name = key.removesuffix(".weight")
        if _TRANSFORMER.fullmatch(name) or (resnets and _RESNET.fullmatch(name)):
            yield Layer(name, original.removesuffix(".weight"), shape)


def text_layers(width: int, number: int) -> Iterator[Layer]:
    """The linear layers of a CLIP text encoder."""
    for key, shape in clip_shapes(width, number).items():
        name = key.removesuffix(".weight")
        if _TEXT.fullmatch(name):
            yield Layer(name, name, shape)


def kohya(layers: Iterator[Layer], prefix: str, rank: int, names: Names = "diffusers") -> Shapes:
    """kohya's LoRA, with an alpha for each layer; that for SDXL has ldm's names."""
    shapes: Shapes = {}
    for layer in layers:
        name = f"{prefix}_{getattr(layer, names).replace('.', '_')}"
        down, up = pair(layer.shape, rank)
        shapes |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        shapes[f"{name}.alpha"] = ()
    return shapes


def peft(layers: Iterator[Layer], prefix: str, rank: int) -> Shapes:
    """The LoRA that diffusers saves since it uses peft, or peft itself."""
    shapes: Shapes = {}
    for layer in layers:
        down, up = pair(layer.shape, rank)
        name = f"{prefix}{layer.diffusers}"
        shapes |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    return shapes


def old_diffusers(layers: Iterator[Layer], prefix: str, rank: int) -> Shapes:
    """The LoRA of attention layers that diffusers saved before."""
    shapes: Shapes = {}
    for layer in layers:
        if attention := re.fullmatch(r"(.*attn[12])\.(to_\w+)(?:\.0)?", layer.diffusers):
            down, up = pair(layer.shape, rank)
            name = f"{prefix}{attention[1]}.processor.{attention[2]}_lora"
            shapes |= {f"{name}.down.weight": down, f"{name}.up.weight": up}
    return shapes


def loha(layers: Iterator[Layer], rank: int) -> Shapes:
    """LyCORIS' LoHa."""
    shapes: Shapes = {}
    for layer in layers:
        name = f"lora_unet_{layer.diffusers.replace('.', '_')}"
        out, width = layer.shape[:2]
        for number in (1, 2):
            shapes[f"{name}.hada_w{number}_a"] = (out, rank)
            shapes[f"{name}.hada_w{number}_b"] = (rank, width)
        shapes[f"{name}.alpha"] = ()
    return shapes


def lokr(layers: Iterator[Layer], rank: int) -> Shapes:
    """LyCORIS' LoKr: the Kronecker product of an 8×8 matrix and one of low rank."""
    shapes: Shapes = {}
    for layer in layers:
        name = f"lora_unet_{layer.diffusers.replace('.', '_')}"
        out, width = layer.shape[:2]
        shapes |= {
            f"{name}.lokr_w1": (8, 8),
            f"{name}.lokr_w2_a": (out // 8, rank),
            f"{name}.lokr_w2_b": (rank, width // 8),
            f"{name}.alpha": (),
        }
    return shapes


def pair(shape: Shape, rank: int) -> tuple[Shape, Shape]:
    """The matrix that reads, with the kernel of the layer, and the one that writes."""
    out, width, *kernel = shape
    return (rank, width, *kernel), (out, rank, *(1 for _ in kernel))
