"""LoRA files of cloneofsimo/lora, whose layers have numbers instead of names.

They count the linear layers of the attentions and of the first half of the feed-forward layers, in
the order in which diffusers registered them: down blocks, up blocks, middle block.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from sdrt.tensor_names import TEXT_ENCODER

NUMBERED = re.compile(r"((?:unet|text_encoder):\d+):(up|down)")

_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_FIRST, _SECOND = ([f"attn{n}.{name}" for name in _ATTENTION] for n in (1, 2))
_FEED_FORWARD = "ff.net.0.proj"
_OF_TRANSFORMERS = (  # in a transformer block
    [*_FIRST, _FEED_FORWARD, *_SECOND],  # until diffusers 0.15
    [*_FIRST, *_SECOND, _FEED_FORWARD],
    [*_FIRST, *_SECOND],
)
_OF_ENCODERS = ["k_proj", "v_proj", "q_proj", "out_proj"]


def numbered_modules(part: str, modules: Collection[str]) -> list[list[str]]:
    """The modules that the numbers of a file may stand for: a list for each known order."""
    if part == TEXT_ENCODER:
        return [_ordered(modules, _OF_ENCODERS)]
    return [_ordered(modules, layers) for layers in _OF_TRANSFORMERS]


def _ordered(modules: Collection[str], layers: Sequence[str]) -> list[str]:
    """The modules whose names end in one of `layers`, in the order of their blocks and layers."""
    places = {
        (_place(module.removesuffix(f".{layer}")), number): module
        for number, layer in enumerate(layers)
        for module in modules
        if module.endswith(f".{layer}")
    }
    return [places[place] for place in sorted(places)]


def _place(block: str) -> tuple[int, ...]:
    """The numbers in a block's name, the middle block after all others."""
    kind = ("down_blocks", "up_blocks", "mid_block", "")
    first = next(number for number, name in enumerate(kind) if block.startswith(name))
    return first, *map(int, re.findall(r"\d+", block))
