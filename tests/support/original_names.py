"""Names of weights in the original (ldm, sgm) layout, by those that diffusers and transformers use.

The inverse of what sdrt and diffusers read, from the layout's own classes: `UNetModel`,
`ControlNet`, `AutoencoderKL`, `FrozenOpenCLIPEmbedder`. diffusers' converters are its oracle.
Weights may be tensors, or shapes alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

T = TypeVar("T")

_OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "controlnet_mid_block": "middle_block_out.0",
    "controlnet_cond_embedding.conv_in": "input_hint_block.0",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def original_unet(model: Mapping[str, T]) -> dict[str, T]:
    """The weights of a UNet, or of a ControlNet, in the original names."""
    per_level = 1 + _count(model, r"down_blocks\.0\.resnets\.(\d+)\.")
    last_hint = 2 * (1 + _count(model, r"controlnet_cond_embedding\.blocks\.(\d+)\."))

    def up(match: re.Match[str]) -> str:
        level = int(match[1])
        place = 2 if f"up_blocks.{level}.attentions.0.norm.weight" in model else 1
        return f"output_blocks.{per_level * (level + 1) - 1}.{place}.conv"

    rules: dict[str, Callable[[re.Match[str]], str]] = {
        r"down_blocks\.(\d+)\.resnets\.(\d+)\.(\w+)": lambda m: (
            f"input_blocks.{1 + _number(m, per_level)}.0.{_RESNET[m[3]]}"
        ),
        r"down_blocks\.(\d+)\.attentions\.(\d+)": lambda m: (
            f"input_blocks.{1 + _number(m, per_level)}.1"
        ),
        r"down_blocks\.(\d+)\.downsamplers\.0\.conv": lambda m: (
            f"input_blocks.{per_level * (int(m[1]) + 1)}.0.op"
        ),
        r"up_blocks\.(\d+)\.resnets\.(\d+)\.(\w+)": lambda m: (
            f"output_blocks.{_number(m, per_level)}.0.{_RESNET[m[3]]}"
        ),
        r"up_blocks\.(\d+)\.attentions\.(\d+)": lambda m: (
            f"output_blocks.{_number(m, per_level)}.1"
        ),
        r"up_blocks\.(\d+)\.upsamplers\.0\.conv": up,
        r"mid_block\.resnets\.(\d)\.(\w+)": lambda m: (
            f"middle_block.{2 * int(m[1])}.{_RESNET[m[2]]}"
        ),
        r"mid_block\.attentions\.0": lambda m: "middle_block.1",
        r"controlnet_down_blocks\.(\d+)": lambda m: f"zero_convs.{m[1]}.0",
        r"controlnet_cond_embedding\.blocks\.(\d+)": lambda m: (
            f"input_hint_block.{2 * int(m[1]) + 2}"
        ),
        r"controlnet_cond_embedding\.conv_out": lambda m: f"input_hint_block.{last_hint}",
        **{re.escape(name): lambda m: _OUTER[m[0]] for name in _OUTER},
    }
    return {_renamed(name, rules): weight for name, weight in model.items()}


def _number(match: re.Match[str], per_level: int) -> int:
    return per_level * int(match[1]) + int(match[2])


def _renamed(name: str, rules: Mapping[str, Callable[[re.Match[str]], str]]) -> str:
    """The name with the beginning that one of the rules knows replaced."""
    for pattern, replaced in rules.items():
        if match := re.match(rf"{pattern}(?=\.)", name):
            return replaced(match) + name[match.end() :]
    raise AssertionError(name)


def _count(names: Collection[str], pattern: str) -> int:
    numbers = (match[1] for name in names if (match := re.match(pattern, name)))
    return 1 + max(map(int, numbers), default=-1)


_VAE_PARTS = {
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def vae_keys(names: Collection[str]) -> dict[str, str]:
    """The original names of a VAE's weights."""
    levels = _count(names, r"decoder\.up_blocks\.(\d+)\.")
    return {name: _vae_key(name, levels) for name in names}


def _vae_key(name: str, levels: int) -> str:
    name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.", lambda match: f"up.{levels - 1 - int(match[1])}.", name)
    name = name.replace("upsamplers.0", "upsample").replace(".resnets.", ".block.")
    name = re.sub(r"mid_block\.block\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1")
    for new, old in _VAE_PARTS.items():
        name = name.replace(f".{new}.", f".{old}.")
    return name


_OPEN_CLIP = {
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn": "attn",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "final_layer_norm": "ln_final",
    "text_projection.weight": "text_projection",
}


def open_clip_key(name: str) -> str:
    """OpenCLIP's name of a text encoder's weight. The projections to queries, keys and values are
    one tensor."""
    name = name.removeprefix("text_model.")
    for new, old in _OPEN_CLIP.items():
        name = name.replace(new, old)
    return re.sub(r"\.[qkv]_proj\.", ".in_proj_", name)


def prefixed(prefix: str, weights: Mapping[str, T]) -> dict[str, T]:
    """The same weights with a prefix before each name."""
    return {prefix + name: weight for name, weight in weights.items()}
