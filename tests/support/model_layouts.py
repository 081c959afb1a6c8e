"""Names and shapes of the weights of Stable Diffusion's models at full size.

`test_model_layouts.py` in `tests/export/` compares them with the classes of diffusers and
transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import TypeAlias

from support.original_names import open_clip_key, vae_keys

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = dict[str, Shape]


@dataclass(frozen=True)
class UnetLayout:
    """The sizes of a UNet. Levels are from the largest image to the smallest."""

    channels: Sequence[int]
    depths: Sequence[int]  # transformer blocks per level; 0: no attention
    context: int
    middle: int = 1  # transformer blocks between both halves
    linear: bool = False  # `proj_in` and `proj_out`
    in_channels: int = 4
    added: int | None = None  # width of SDXL's pooled vector and sizes

    @property
    def time(self) -> int:
        """The width of the embedded timestep."""
        return 4 * self.channels[0]


SD1 = UnetLayout((320, 640, 1280, 1280), (1, 1, 1, 0), 768)
SD2 = replace(SD1, context=1024, linear=True)
SDXL = UnetLayout((320, 640, 1280), (0, 2, 10), 2048, middle=10, linear=True, added=2816)
REFINER = UnetLayout((384, 768, 1536, 1536), (0, 4, 4, 0), 1280, middle=4, linear=True, added=2560)


def unet_shapes(layout: UnetLayout) -> Shapes:
    """The weights of a UNet, as diffusers names them."""
    first = layout.channels[0]
    return {
        **_encoder(layout),
        **_decoder(layout),
        **_both("conv_norm_out", (first,)),
        **_both("conv_out", (4, first, 3, 3)),
    }


def _encoder(layout: UnetLayout) -> Shapes:
    """The half of a UNet that a ControlNet has, too, with the middle."""
    width, time = layout.channels[0], layout.time
    shapes = {
        **_both("time_embedding.linear_1", (time, width)),
        **_both("time_embedding.linear_2", (time, time)),
        **_both("conv_in", (width, layout.in_channels, 3, 3)),
    }
    if layout.added:
        shapes |= _both("add_embedding.linear_1", (time, layout.added))
        shapes |= _both("add_embedding.linear_2", (time, time))
    for level, (out, depth) in enumerate(zip(layout.channels, layout.depths, strict=True)):
        block = f"down_blocks.{level}"
        for index in range(2):
            shapes |= _resnet(f"{block}.resnets.{index}", width, out, time)
            shapes |= _transformer(f"{block}.attentions.{index}", out, depth, layout)
            width = out
        if level < len(layout.channels) - 1:
            shapes |= _both(f"{block}.downsamplers.0.conv", (out, out, 3, 3))
    shapes |= _resnet("mid_block.resnets.0", width, width, time)
    shapes |= _transformer("mid_block.attentions.0", width, layout.middle, layout)
    return shapes | _resnet("mid_block.resnets.1", width, width, time)


def _decoder(layout: UnetLayout) -> Shapes:
    shapes: Shapes = {}
    skips, width = _skips(layout), layout.channels[-1]
    levels = zip(reversed(layout.channels), reversed(layout.depths), strict=True)
    for level, (out, depth) in enumerate(levels):
        block = f"up_blocks.{level}"
        for index in range(3):
            shapes |= _resnet(f"{block}.resnets.{index}", width + skips.pop(), out, layout.time)
            shapes |= _transformer(f"{block}.attentions.{index}", out, depth, layout)
            width = out
        if level < len(layout.channels) - 1:
            shapes |= _both(f"{block}.upsamplers.0.conv", (out, out, 3, 3))
    return shapes


def _skips(layout: UnetLayout) -> list[int]:
    """The widths of what the encoder hands to the decoder."""
    levels = [[out] * 3 for out in layout.channels]
    return [layout.channels[0], *chain.from_iterable(levels)][:-1]


def _resnet(name: str, width: int, out: int, time: int | None = None) -> Shapes:
    """A residual block, of a UNet if it reads a timestep; else of a VAE."""
    return {
        **_both(f"{name}.norm1", (width,)),
        **_both(f"{name}.conv1", (out, width, 3, 3)),
        **(_both(f"{name}.time_emb_proj", (out, time)) if time else {}),
        **_both(f"{name}.norm2", (out,)),
        **_both(f"{name}.conv2", (out, out, 3, 3)),
        **(_both(f"{name}.conv_shortcut", (out, width, 1, 1)) if width != out else {}),
    }


def _transformer(name: str, width: int, depth: int, layout: UnetLayout) -> Shapes:
    if not depth:
        return {}
    projection = (width, width) if layout.linear else (width, width, 1, 1)
    shapes = _both(f"{name}.norm", (width,))
    shapes |= _both(f"{name}.proj_in", projection) | _both(f"{name}.proj_out", projection)
    for number in range(depth):
        block = f"{name}.transformer_blocks.{number}"
        for attention, reads in (("attn1", width), ("attn2", layout.context)):
            shapes[f"{block}.{attention}.to_q.weight"] = (width, width)
            shapes[f"{block}.{attention}.to_k.weight"] = (width, reads)
            shapes[f"{block}.{attention}.to_v.weight"] = (width, reads)
            shapes |= _both(f"{block}.{attention}.to_out.0", (width, width))
        shapes |= _both(f"{block}.ff.net.0.proj", (8 * width, width))
        shapes |= _both(f"{block}.ff.net.2", (width, 4 * width))
        for index in (1, 2, 3):
            shapes |= _both(f"{block}.norm{index}", (width,))
    return shapes


def controlnet_shapes(layout: UnetLayout) -> Shapes:
    """The weights of a ControlNet for a UNet of that layout, as diffusers names them."""
    shapes = _encoder(layout)
    widths = (3, 16, 16, 32, 32, 96, 96, 256, layout.channels[0])
    names = ("conv_in", *(f"blocks.{number}" for number in range(6)), "conv_out")
    for name, (width, out) in zip(names, pairwise(widths), strict=True):
        shapes |= _both(f"controlnet_cond_embedding.{name}", (out, width, 3, 3))
    for index, width in enumerate(_skips(layout)):
        shapes |= _both(f"controlnet_down_blocks.{index}", (width, width, 1, 1))
    last = layout.channels[-1]
    return shapes | _both("controlnet_mid_block", (last, last, 1, 1))


def clip_shapes(width: int, layers: int) -> Shapes:
    """The weights of CLIP's text encoder as transformers names them."""
    shapes: Shapes = {
        "embeddings.token_embedding.weight": (49408, width),
        "embeddings.position_embedding.weight": (77, width),
        **_both("final_layer_norm", (width,)),
    }
    for number in range(layers):
        layer = f"encoder.layers.{number}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _both(f"{layer}.self_attn.{name}", (width, width))
        shapes |= _both(f"{layer}.mlp.fc1", (4 * width, width))
        shapes |= _both(f"{layer}.mlp.fc2", (width, 4 * width))
        shapes |= _both(f"{layer}.layer_norm1", (width,)) | _both(f"{layer}.layer_norm2", (width,))
    return {f"text_model.{name}": shape for name, shape in shapes.items()}


def open_clip_shapes(width: int, layers: int) -> Shapes:
    """The same, with a projection, as OpenCLIP names them."""
    shapes: Shapes = {"text_projection": (width, width), "logit_scale": ()}
    for name, shape in clip_shapes(width, layers).items():
        key = open_clip_key(name)
        shapes[key] = (3 * width, *shape[1:]) if ".in_proj_" in key else shape
    return shapes


def vae_shapes() -> Shapes:
    """The weights of Stable Diffusion's VAE, as diffusers names them."""
    widths = (128, 256, 512, 512)
    shapes = {
        **_both("encoder.conv_in", (128, 3, 3, 3)),
        **_middle("encoder", 512),
        **_both("encoder.conv_norm_out", (512,)),
        **_both("encoder.conv_out", (8, 512, 3, 3)),
        **_both("quant_conv", (8, 8, 1, 1)),
        **_both("post_quant_conv", (4, 4, 1, 1)),
        **_both("decoder.conv_in", (512, 4, 3, 3)),
        **_middle("decoder", 512),
        **_both("decoder.conv_norm_out", (128,)),
        **_both("decoder.conv_out", (3, 128, 3, 3)),
    }
    for level, (width, out) in enumerate(pairwise((128, *widths))):
        block = f"encoder.down_blocks.{level}"
        for index in range(2):
            shapes |= _resnet(f"{block}.resnets.{index}", out if index else width, out)
        if level < 3:
            shapes |= _both(f"{block}.downsamplers.0.conv", (out, out, 3, 3))
    for level, (width, out) in enumerate(pairwise((512, *reversed(widths)))):
        block = f"decoder.up_blocks.{level}"
        for index in range(3):
            shapes |= _resnet(f"{block}.resnets.{index}", out if index else width, out)
        if level < 3:
            shapes |= _both(f"{block}.upsamplers.0.conv", (out, out, 3, 3))
    return shapes


def _middle(half: str, width: int) -> Shapes:
    attention = f"{half}.mid_block.attentions.0"
    shapes = _both(f"{attention}.group_norm", (width,))
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        shapes |= _both(f"{attention}.{name}", (width, width))
    for index in range(2):
        shapes |= _resnet(f"{half}.mid_block.resnets.{index}", width, width)
    return shapes


def original_vae_shapes() -> Shapes:
    """The weights of Stable Diffusion's VAE in the original names, with 1×1 convolutions in place
    of matrices."""
    shapes = vae_shapes()
    keys = vae_keys(shapes)
    return {
        keys[name]: (*shape, 1, 1) if len(shape) == 2 else shape for name, shape in shapes.items()
    }


def _both(name: str, shape: Shape) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
