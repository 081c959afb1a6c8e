"""The UNet of ldm and sgm, and ControlNets, which are its first half.

Source: `UNetModel` of ldm and sgm, `ControlNet` of cldm; diffusers' `single_file_utils.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sdrt.adapters.module_names import (
    ORIGINAL_MIDDLE,
    ORIGINAL_OUT,
    ORIGINAL_RESNET,
    ORIGINAL_TOP,
)
from sdrt_export.checkpoints.original.names import Key, count_of, names_from_modules

_HINT = "input_hint_block"
_CONDITION = "controlnet_cond_embedding"


def unet_names(keys: Collection[str]) -> dict[str, Key]:
    """The weights of a UNet, from keys without their prefix."""
    per_level = _input_blocks_per_level(keys)
    modules = _first_half(keys, per_level) | _inverted(ORIGINAL_OUT)
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
    modules = _inverted(ORIGINAL_TOP)
    for name, module in ORIGINAL_MIDDLE.items():
        modules |= _resnet(module, name) if ".resnets." in name else {module: name}
    for number in range(1, count_of("input_blocks", keys)):
        level, layer = divmod(number - 1, per_level)
        block, down = f"input_blocks.{number}", f"down_blocks.{level}"
        modules |= _resnet(f"{block}.0", f"{down}.resnets.{layer}")
        modules[f"{block}.1"] = f"{down}.attentions.{layer}"
        modules[f"{block}.0.op"] = f"{down}.downsamplers.0.conv"
    return modules


def _resnet(module: str, name: str) -> dict[str, str]:
    return {f"{module}.{old}": f"{name}.{new}" for new, old in ORIGINAL_RESNET.items()}


def _inverted(names: Mapping[str, str]) -> dict[str, str]:
    return {old: new for new, old in names.items()}


def _input_blocks_per_level(keys: Collection[str]) -> int:
    """The blocks of a level: its residual blocks, and one that halves the size.

    The input convolution, block 0, is not counted.
    """
    count = count_of("input_blocks", keys)
    halving = (n for n in range(1, count) if f"input_blocks.{n}.0.op.weight" in keys)
    return next(halving, max(count, 1))
