"""The names that LoRA files have for the modules of a UNet or a CLIP text encoder.

Files in kohya's layout have underscores instead of dots, so a name is not taken apart but looked up
among those of the model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial

_TEXT_MODEL = "text_model."  # a module that transformers 5 has removed
_OLD_ATTENTION = {  # diffusers' names before 0.19, by today's
    ".q_proj": ".to_q",
    ".k_proj": ".to_k",
    ".v_proj": ".to_v",
    ".out_proj": ".to_out",
    ".to_out.0": ".to_out",
}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)")

# Names in Stability's and CompVis' own UNet, by those in diffusers.
ORIGINAL_TOP = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
ORIGINAL_OUT = {"conv_norm_out": "out.0", "conv_out": "out.2"}  # which a ControlNet does not have
ORIGINAL_MIDDLE = {
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
ORIGINAL_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def spellings(modules: Collection[str]) -> dict[str, str]:
    """The modules of a model by each name that files have for them, with dots."""
    original = partial(_original_name, _original_blocks(modules))
    return {
        spelled: module
        for module in modules
        for name in (*_with_and_without_text_model(module), original(module))
        if name is not None
        for spelled in _old_and_new(name)
    }


def flat_spellings(modules: Collection[str]) -> dict[str, str]:
    """The same with underscores instead of dots."""
    return {name.replace(".", "_"): module for name, module in spellings(modules).items()}


def _with_and_without_text_model(module: str) -> tuple[str, str]:
    short = module.removeprefix(_TEXT_MODEL)
    return short, _TEXT_MODEL + short


def _old_and_new(name: str) -> Iterator[str]:
    yield name
    for new, old in _OLD_ATTENTION.items():
        if name.endswith(new):
            yield name.removesuffix(new) + old


def _original_name(blocks: Mapping[str, str], module: str) -> str | None:
    """The name of a UNet's module in the original code; None if it has no other."""
    if named := ORIGINAL_TOP.get(module) or ORIGINAL_OUT.get(module):
        return named
    block = re.match(r"(?:mid_block|\w+_blocks\.\d+)\.\w+\.\d+", module)
    if block is None or block[0] not in blocks:
        return None
    rest = module[block.end() + 1 :]
    if ".resnets." in block[0]:
        rest = ORIGINAL_RESNET.get(rest, rest)
    elif ".downsamplers." in block[0]:
        rest = "op"
    return f"{blocks[block[0]]}.{rest}"


def _original_blocks(modules: Iterable[str]) -> dict[str, str]:
    """The original names of the parts of blocks, `down_blocks.1.attentions.0`, by diffusers'.

    The original code numbers the resnets of all blocks in one list; a downsampler has a number of
    its own, an upsampler belongs to the last resnet of its block.
    """
    found = {match.groups() for match in map(_BLOCK.match, modules) if match}
    sizes = Counter((way, block) for way, block, kind, _ in found if kind == "resnets")
    names = dict(ORIGINAL_MIDDLE)
    for way, block, kind, place in found:
        resnets = sizes[way, block]
        before = sum(sizes[way, str(number)] for number in range(int(block)))
        behind = 1 + ((way, block, "attentions", "0") in found)
        column = {"attentions": 1, "upsamplers": behind}.get(kind, 0)
        if way == "down":
            row = 1 + before + int(block) + (resnets if kind == "downsamplers" else int(place))
        else:
            row = before + (resnets - 1 if kind == "upsamplers" else int(place))
        side = "input" if way == "down" else "output"
        names[f"{way}_blocks.{block}.{kind}.{place}"] = f"{side}_blocks.{row}.{column}"
    return names
