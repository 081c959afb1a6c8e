"""The nodes that stay float32 in a half-precision network.

The reasons, with others' experience: SD 2.1's attention scores overflow float16 and give black
images (NVIDIA/TensorRT#2667), SDXL's VAE overflows in both directions (its authors' model card;
sdxl-vae-fp16-fix has other weights for that reason), `sin(1000 * frequency)` has no digits left in
float16. `precision.check` finds what these rules miss by running the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sdrt.families.family import Role
from sdrt.families.known import TINY_VAE_CLASS

HalfType: TypeAlias = Literal["fp16", "bf16"]
Precision: TypeAlias = Literal["fp16", "bf16", "fp32"]

# Of these rules, of the pass and of the search: part of every plan's key.
POLICY_VERSION = 2


@dataclass(frozen=True)
class Rules:
    """The rules for the nodes that stay float32."""

    # Sums of squares and means over whole feature maps. LayerNormalization is not among them: by
    # its definition it computes the statistics in float32 (stash_type = 1) for any input type.
    operators: frozenset[str] = frozenset(
        {"InstanceNormalization", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Pow", "Sqrt"}
    )
    # These and all nodes that lead to them: the embedding of timesteps.
    with_origins: frozenset[str] = frozenset({"Sin", "Cos"})
    attention_scores: bool = False  # from the product of queries and keys to its softmax
    everything: str | None = None  # the reason why all nodes stay float32


_PLAIN = Rules()
_SCORES = Rules(attention_scores=True)
_UPCAST = Rules(everything='it needs float32 unless its configuration says "force_upcast": false')

# Families whose attention scores overflow, whatever their configurations say.
_LOUD_ATTENTION = frozenset({"stable-diffusion-2"})
# Families whose VAE overflows unless its configuration says `"force_upcast": false`. The pipelines
# of other families ignore this option in diffusers, and `AutoencoderKL` saves it as true.
_LOUD_VAE = frozenset({"stable-diffusion-xl", "stable-diffusion-xl-refiner"})


def rules_for(family: str, role: Role, config: Mapping[str, Any]) -> Rules:
    """The rules for a component with that role and `config.json` in a bundle of `family`."""
    if role in ("denoiser", "controlnet"):
        upcast = family in _LOUD_ATTENTION or config.get("upcast_attention")
        return _SCORES if upcast else _PLAIN
    if config.get("_class_name") == TINY_VAE_CLASS:
        return _PLAIN  # its authors run it in half precision, whatever the family
    if role in ("vae decoder", "vae encoder") and family in _LOUD_VAE:
        return _PLAIN if config.get("force_upcast") is False else _UPCAST
    return _PLAIN
