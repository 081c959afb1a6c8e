"""The UNet of ldm and sgm, and ControlNets, which are its first half.

Source: `UNetModel` of ldm and sgm, `ControlNet` of cldm; diffusers' `single_file_utils.py`.
"""

from __future__ import annotations

from collections.abc import Collection

from sdrt_export.checkpoints.original.names import Key, count_of, names_from_modules

_BOTH = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "middle_block.1": "mid_block.attentions.0",
}
_OUT = {"out.0": "conv_norm_out", "out.2": "conv_out"}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_HINT = "input_hint_block"
_CONDITION = "controlnet_cond_embedding"


def unet_names(keys: Collection[str]) -> dict[str, Key]:
    """The weights of a UNet, from keys without their prefix."""
    per_level = _input_blocks_per_level(keys)
    modules = _first_half(keys, per_level) | _OUT
    for number in range(count_of("output_blocks", keys)):
        level, layer = divmod(number, per_level)
        block, up = f"output_blocks.{number}", f"up_blocks.{level}"
        modules |= _resnet(f"{block}.0", f"{up}.resnets.{layer}")
        modules[f"{block}.1"] = f"{up}.attentions.{layer}"
        # It comes after the transformer, if there is one.
        modules |= {f"{block}.{place}.conv": f"{up}.upsamplers.0.conv" for place in (1, 2)}
    return names_from_modules(keys, modules)


def controlnet_names(keys: Collection[str]) -> dict[str, Key]:
    """The weights of a ControlNet, from keys without their prefix."""
    modules = _first_half(keys, _input_blocks_per_level(keys))
    modules["middle_block_out.0"] = "controlnet_mid_block"
    for number in range(count_of("zero_convs", keys)):
        modules[f"zero_convs.{number}.0"] = f"controlnet_down_blocks.{number}"
    last = 2 * (count_of(_HINT, keys) - 1)  # every other layer is an activation
    for number in range(2, last, 2):
        modules[f"{_HINT}.{number}"] = f"{_CONDITION}.blocks.{number // 2 - 1}"
    modules[f"{_HINT}.{last}"] = f"{_CONDITION}.conv_out"
    modules[f"{_HINT}.0"] = f"{_CONDITION}.conv_in"
    return names_from_modules(keys, modules)


def _first_half(keys: Collection[str], per_level: int) -> dict[str, str]:
    modules = dict(_BOTH)
    modules |= _resnet("middle_block.0", "mid_block.resnets.0")
    modules |= _resnet("middle_block.2", "mid_block.resnets.1")
    for number in range(1, count_of("input_blocks", keys)):
        level, layer = divmod(number - 1, per_level)
        block, down = f"input_blocks.{number}", f"down_blocks.{level}"
        modules |= _resnet(f"{block}.0", f"{down}.resnets.{layer}")
        modules[f"{block}.1"] = f"{down}.attentions.{layer}"
        modules[f"{block}.0.op"] = f"{down}.downsamplers.0.conv"
    return modules


def _resnet(module: str, name: str) -> dict[str, str]:
    return {f"{module}.{old}": f"{name}.{new}" for old, new in _RESNET.items()}


def _input_blocks_per_level(keys: Collection[str]) -> int:
    """The blocks of a level: its residual blocks, and one that halves the size.

    The input convolution, block 0, is not counted.
    """
    count = count_of("input_blocks", keys)
    halving = (n for n in range(1, count) if f"input_blocks.{n}.0.op.weight" in keys)
    return next(halving, max(count, 1))
