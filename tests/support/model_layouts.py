"""Names and shapes of the weights of Stable Diffusion's models at full size, in both spellings.

`test_model_layouts.py` in `tests/export/` compares them with diffusers' classes and conversion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import NamedTuple, TypeAlias

Shape: TypeAlias = tuple[int, ...]


class Weight(NamedTuple):
    """A weight of a UNet."""

    ldm: str
    diffusers: str
    shape: Shape


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


SD1 = UnetLayout((320, 640, 1280, 1280), (1, 1, 1, 0), 768)
SD2 = replace(SD1, context=1024, linear=True)
SDXL = UnetLayout((320, 640, 1280), (0, 2, 10), 2048, middle=10, linear=True, added=2816)
REFINER = UnetLayout((384, 768, 1536, 1536), (0, 4, 4, 0), 1280, middle=4, linear=True, added=2560)


def unet_weights(layout: UnetLayout) -> Iterator[Weight]:
    """The weights of a UNet."""
    time = 4 * layout.channels[0]
    yield from _encoder(layout, time)
    yield from _decoder(layout, time)
    first = layout.channels[0]
    yield from _layer("out.0", "conv_norm_out", (first,))
    yield from _layer("out.2", "conv_out", (4, first, 3, 3))


def _encoder(layout: UnetLayout, time: int) -> Iterator[Weight]:
    """The half of a UNet that a ControlNet has, too, with the middle."""
    first, *_ = channels = layout.channels
    yield from _layer("time_embed.0", "time_embedding.linear_1", (time, first))
    yield from _layer("time_embed.2", "time_embedding.linear_2", (time, time))
    if layout.added:
        yield from _layer("label_emb.0.0", "add_embedding.linear_1", (time, layout.added))
        yield from _layer("label_emb.0.2", "add_embedding.linear_2", (time, time))
    yield from _layer("input_blocks.0.0", "conv_in", (first, layout.in_channels, 3, 3))
    number, width = 0, first
    for level, out in enumerate(channels):
        block = f"down_blocks.{level}"
        for index in range(2):
            number += 1
            ldm = f"input_blocks.{number}"
            yield from _resnet(f"{ldm}.0", f"{block}.resnets.{index}", width, out, time)
            attention = f"{block}.attentions.{index}"
            yield from _transformer(f"{ldm}.1", attention, out, layout.depths[level], layout)
            width = out
        if level < len(channels) - 1:
            number += 1
            down = f"{block}.downsamplers.0.conv"
            yield from _layer(f"input_blocks.{number}.0.op", down, (out, out, 3, 3))
    yield from _resnet("middle_block.0", "mid_block.resnets.0", width, width, time)
    yield from _transformer(
        "middle_block.1", "mid_block.attentions.0", width, layout.middle, layout
    )
    yield from _resnet("middle_block.2", "mid_block.resnets.1", width, width, time)


def _decoder(layout: UnetLayout, time: int) -> Iterator[Weight]:
    skips = _skips(layout)
    number, width = 0, layout.channels[-1]
    for level, (out, depth) in enumerate(
        zip(reversed(layout.channels), reversed(layout.depths), strict=True)
    ):
        block = f"up_blocks.{level}"
        for index in range(3):
            ldm = f"output_blocks.{number}"
            resnet = f"{block}.resnets.{index}"
            yield from _resnet(f"{ldm}.0", resnet, width + skips.pop(), out, time)
            yield from _transformer(f"{ldm}.1", f"{block}.attentions.{index}", out, depth, layout)
            number, width = number + 1, out
        if level < len(layout.channels) - 1:
            up = f"output_blocks.{number - 1}.{2 if depth else 1}.conv"
            yield from _layer(up, f"{block}.upsamplers.0.conv", (out, out, 3, 3))


def _skips(layout: UnetLayout) -> list[int]:
    """The widths of what the encoder hands to the decoder."""
    levels = [[out] * 3 for out in layout.channels]
    return [layout.channels[0], *chain.from_iterable(levels)][:-1]


def _resnet(ldm: str, diffusers: str, width: int, out: int, time: int) -> Iterator[Weight]:
    yield from _layer(f"{ldm}.in_layers.0", f"{diffusers}.norm1", (width,))
    yield from _layer(f"{ldm}.in_layers.2", f"{diffusers}.conv1", (out, width, 3, 3))
    yield from _layer(f"{ldm}.emb_layers.1", f"{diffusers}.time_emb_proj", (out, time))
    yield from _layer(f"{ldm}.out_layers.0", f"{diffusers}.norm2", (out,))
    yield from _layer(f"{ldm}.out_layers.3", f"{diffusers}.conv2", (out, out, 3, 3))
    if width != out:
        shortcut = f"{diffusers}.conv_shortcut"
        yield from _layer(f"{ldm}.skip_connection", shortcut, (out, width, 1, 1))


def _transformer(
    ldm: str, diffusers: str, width: int, depth: int, layout: UnetLayout
) -> Iterator[Weight]:
    if not depth:
        return
    projection = (width, width) if layout.linear else (width, width, 1, 1)
    layers: dict[str, Shape] = {"norm": (width,), "proj_in": projection, "proj_out": projection}
    for number in range(depth):
        block = f"transformer_blocks.{number}"
        for attention, reads in (("attn1", width), ("attn2", layout.context)):
            yield from _bare(ldm, diffusers, f"{block}.{attention}.to_q", (width, width))
            for name in ("to_k", "to_v"):
                yield from _bare(ldm, diffusers, f"{block}.{attention}.{name}", (width, reads))
            layers[f"{block}.{attention}.to_out.0"] = (width, width)
        layers[f"{block}.ff.net.0.proj"] = (8 * width, width)
        layers[f"{block}.ff.net.2"] = (width, 4 * width)
        layers |= {f"{block}.norm{index}": (width,) for index in (1, 2, 3)}
    for name, shape in layers.items():
        yield from _layer(f"{ldm}.{name}", f"{diffusers}.{name}", shape)


def _layer(ldm: str, diffusers: str, shape: Shape) -> Iterator[Weight]:
    yield Weight(f"{ldm}.weight", f"{diffusers}.weight", shape)
    yield Weight(f"{ldm}.bias", f"{diffusers}.bias", shape[:1])


def _bare(ldm: str, diffusers: str, name: str, shape: Shape) -> Iterator[Weight]:
    yield Weight(f"{ldm}.{name}.weight", f"{diffusers}.{name}.weight", shape)


def controlnet_weights(layout: UnetLayout) -> Iterator[Weight]:
    """The weights of a ControlNet for a UNet of that layout."""
    yield from _encoder(layout, 4 * layout.channels[0])
    widths = (3, 16, 16, 32, 32, 96, 96, 256, layout.channels[0])
    names = ("conv_in", *(f"blocks.{number}" for number in range(6)), "conv_out")
    for index, (name, (width, out)) in enumerate(zip(names, pairwise(widths), strict=True)):
        diffusers = f"controlnet_cond_embedding.{name}"
        yield from _layer(f"input_hint_block.{2 * index}", diffusers, (out, width, 3, 3))
    for index, width in enumerate(_skips(layout)):
        name = f"controlnet_down_blocks.{index}"
        yield from _layer(f"zero_convs.{index}.0", name, (width, width, 1, 1))
    last = layout.channels[-1]
    yield from _layer("middle_block_out.0", "controlnet_mid_block", (last, last, 1, 1))


def clip_shapes(width: int, layers: int) -> dict[str, Shape]:
    """The weights of CLIP's text encoder as transformers names them."""
    shapes: dict[str, Shape] = {
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


def open_clip_shapes(width: int, layers: int) -> dict[str, Shape]:
    """The same as OpenCLIP names them."""
    shapes: dict[str, Shape] = {
        "token_embedding.weight": (49408, width),
        "positional_embedding": (77, width),
        "text_projection": (width, width),
        "logit_scale": (),
        **_both("ln_final", (width,)),
    }
    for number in range(layers):
        layer = f"transformer.resblocks.{number}"
        shapes[f"{layer}.attn.in_proj_weight"] = (3 * width, width)
        shapes[f"{layer}.attn.in_proj_bias"] = (3 * width,)
        shapes |= _both(f"{layer}.attn.out_proj", (width, width))
        shapes |= _both(f"{layer}.mlp.c_fc", (4 * width, width))
        shapes |= _both(f"{layer}.mlp.c_proj", (width, 4 * width))
        shapes |= _both(f"{layer}.ln_1", (width,)) | _both(f"{layer}.ln_2", (width,))
    return shapes


def vae_shapes() -> dict[str, Shape]:
    """The weights of Stable Diffusion's VAE as CompVis names them."""
    widths = (128, 256, 512, 512)
    shapes = {
        **_both("encoder.conv_in", (128, 3, 3, 3)),
        **_middle("encoder", 512),
        **_both("encoder.norm_out", (512,)),
        **_both("encoder.conv_out", (8, 512, 3, 3)),
        **_both("quant_conv", (8, 8, 1, 1)),
        **_both("post_quant_conv", (4, 4, 1, 1)),
        **_both("decoder.conv_in", (512, 4, 3, 3)),
        **_middle("decoder", 512),
        **_both("decoder.norm_out", (128,)),
        **_both("decoder.conv_out", (3, 128, 3, 3)),
    }
    for level, (width, out) in enumerate(zip((128, *widths), widths, strict=False)):
        for index in range(2):
            block = f"encoder.down.{level}.block.{index}"
            shapes |= _vae_resnet(block, out if index else width, out)
        if level < 3:
            shapes |= _both(f"encoder.down.{level}.downsample.conv", (out, out, 3, 3))
    for level, (width, out) in enumerate(zip((*widths[1:], 512), widths, strict=True)):
        for index in range(3):
            block = f"decoder.up.{level}.block.{index}"
            shapes |= _vae_resnet(block, out if index else width, out)
        if level:
            shapes |= _both(f"decoder.up.{level}.upsample.conv", (out, out, 3, 3))
    return shapes


def _middle(half: str, width: int) -> dict[str, Shape]:
    attention = {
        key: shape
        for name in ("q", "k", "v", "proj_out")
        for key, shape in _both(f"{half}.mid.attn_1.{name}", (width, width, 1, 1)).items()
    }
    return {
        **_vae_resnet(f"{half}.mid.block_1", width, width),
        **_both(f"{half}.mid.attn_1.norm", (width,)),
        **attention,
        **_vae_resnet(f"{half}.mid.block_2", width, width),
    }


def _vae_resnet(block: str, width: int, out: int) -> dict[str, Shape]:
    shortcut = _both(f"{block}.nin_shortcut", (out, width, 1, 1)) if width != out else {}
    return {
        **_both(f"{block}.norm1", (width,)),
        **_both(f"{block}.conv1", (out, width, 3, 3)),
        **_both(f"{block}.norm2", (out,)),
        **_both(f"{block}.conv2", (out, out, 3, 3)),
        **shortcut,
    }


def _both(name: str, shape: Shape) -> dict[str, Shape]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def prefixed(prefix: str, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The same weights with a prefix before each name."""
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}
