"""The autoencoder of ldm and sgm.

Source: `AutoencoderKL` of ldm; diffusers' `single_file_utils.py`.
"""

from __future__ import annotations

from collections.abc import Collection

from sdrt_export.checkpoints.original.names import Key, count_of, names_from_modules

_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
_RESNET = ("norm1", "conv1", "norm2", "conv2")


def vae_names(keys: Collection[str]) -> dict[str, Key]:
    """The weights of an `AutoencoderKL`, from keys without their prefix."""
    modules = {name: name for name in ("quant_conv", "post_quant_conv")}
    for half in ("encoder", "decoder"):
        modules |= {f"{half}.{name}": f"{half}.{name}" for name in ("conv_in", "conv_out")}
        modules[f"{half}.norm_out"] = f"{half}.conv_norm_out"
        modules |= _middle(half)
    modules |= _levels(keys, "encoder.down", "encoder.down_blocks", "downsample")
    modules |= _levels(keys, "decoder.up", "decoder.up_blocks", "upsample", backwards=True)
    return names_from_modules(keys, modules)


def _middle(half: str) -> dict[str, str]:
    attention = f"{half}.mid.attn_1", f"{half}.mid_block.attentions.0"
    return {
        **_resnet(f"{half}.mid.block_1", f"{half}.mid_block.resnets.0"),
        **{f"{attention[0]}.{old}": f"{attention[1]}.{new}" for old, new in _ATTENTION.items()},
        **_resnet(f"{half}.mid.block_2", f"{half}.mid_block.resnets.1"),
    }


def _levels(
    keys: Collection[str], module: str, name: str, resized: str, *, backwards: bool = False
) -> dict[str, str]:
    """The levels, which the original decoder counts from the image, and diffusers from the
    latents."""
    count = count_of(module, keys)
    modules = {}
    for number in range(count):
        old, new = f"{module}.{number}", f"{name}.{count - 1 - number if backwards else number}"
        modules[f"{old}.{resized}.conv"] = f"{new}.{resized}rs.0.conv"
        for layer in range(count_of(f"{old}.block", keys)):
            modules |= _resnet(f"{old}.block.{layer}", f"{new}.resnets.{layer}")
    return modules


def _resnet(module: str, name: str) -> dict[str, str]:
    same = {f"{module}.{part}": f"{name}.{part}" for part in _RESNET}
    return same | {f"{module}.nin_shortcut": f"{name}.conv_shortcut"}
