"""The largest arrays that a network computes, from diffusers' configuration of it.

They decide how much memory a run takes, and grow with the size of the image. Each is an array of
one layer, for one row, in float32.

Source: diffusers 0.39, `UNet2DConditionModel`, `ControlNetModel`, `AutoencoderKL`,
`AutoencoderTiny`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sdrt.errors import BundleError, quoted
from sdrt.families.family import Role
from sdrt.families.known import TINY_VAE_CLASS
from sdrt.files.json_fields import JsonFields

_FLOAT = 4  # bytes
_MAX_CHANNELS = 65536


@dataclass(frozen=True)
class Activations:
    """Bytes of the largest arrays of a network, for latents of h·w = 1."""

    feature_map: float = 0  # grows with h·w
    scores: float = 0  # attention: a weight for each pair of positions; grows with (h·w)²


NO_ACTIVATIONS = Activations()


def activations_from_config(role: Role, config: JsonFields) -> Activations:
    """The largest arrays of the network with this role. BundleError for a malformed field."""
    if role in ("denoiser", "controlnet"):
        return _of_unet(config)
    if role in ("vae encoder", "vae decoder"):
        return _of_vae(config, full=0 if role == "vae encoder" else 1)
    return NO_ACTIVATIONS  # a text's size is the same for all images


def _of_unet(config: JsonFields) -> Activations:
    """The first level with attention has the largest: level i has 4^i fewer positions."""
    channels = _channels(config)
    convolved = channels[0] + channels[min(1, len(channels) - 1)]  # with the skip connection
    attended = [
        (4**level, channels[level], heads) for level, heads in _heads(config, len(channels))
    ]
    # GEGLU: a projection to 8 times the channels, and half of it after GELU
    maps = [convolved, *(12 * width / fewer for fewer, width, _ in attended)]
    scores = [heads / fewer**2 for fewer, _, heads in attended]
    return Activations(_FLOAT * max(maps), _FLOAT * max(scores, default=0))


def _of_vae(config: JsonFields, full: int) -> Activations:
    """The widest map at full resolution: `full` is the level whose channels it has. The block in
    the middle attends with one head."""
    if config.values.get("_class_name") == TINY_VAE_CLASS:
        half = "encoder" if full == 0 else "decoder"
        channels = _channels(config, f"{half}_block_out_channels")
        attends = False
    else:
        channels = _channels(config)
        attends = config.values.get("mid_block_add_attention", True)
    per_latent = 4 ** (len(channels) - 1)  # pixels
    width = channels[min(full, len(channels) - 1)]
    return Activations(_FLOAT * per_latent * width, _FLOAT if attends else 0)


def _heads(config: JsonFields, num_levels: int) -> Iterator[tuple[int, int]]:
    """Each level with attention, and the number of its heads. `attention_head_dim` means the same
    as `num_attention_heads`: an error of diffusers that its checkpoints keep."""
    given = config.values.get("num_attention_heads") or config.values.get("attention_head_dim", 8)
    heads = given if isinstance(given, list) else [given] * num_levels
    for level, block in enumerate(config.array("down_block_types")[: len(heads)]):
        if "CrossAttn" in str(block):
            yield level, _count("attention_head_dim", heads[level])


def _channels(config: JsonFields, name: str = "block_out_channels") -> Sequence[int]:
    channels = [_count(name, each) for each in config.array(name)]
    if not channels:
        raise BundleError(f"{name}: got [], expected a number for each level")
    return channels


def _count(name: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _MAX_CHANNELS:
        raise BundleError(f"{name}: got {quoted(value)}, expected 1 to {_MAX_CHANNELS}")
    return value
