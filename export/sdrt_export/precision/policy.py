"""The nodes that stay float32 in a half-precision network, as data.

The reasons, with others' experience: SD 2.1's attention scores overflow float16 and give black
images (NVIDIA/TensorRT#2667), SDXL's VAE overflows in both directions (its authors' model card;
sdxl-vae-fp16-fix has other weights for that reason), `sin(1000 * frequency)` has no digits left in
float16. `precision.check` finds what these tables miss by running the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sdrt.families.family import Role

HalfType: TypeAlias = Literal["fp16", "bf16"]
Precision: TypeAlias = Literal["fp16", "bf16", "fp32"]

POLICY_VERSION = 1  # of these tables and of the pass: part of every plan's key


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
    everything: bool = False


_SD2_ATTENTION = Rules(attention_scores=True)
_SDXL_VAE = Rules(everything=True)

# family → role → rules; all others follow `Rules()`
_EXCEPTIONS: Mapping[str, Mapping[Role, Rules]] = {
    "stable-diffusion-2": {"denoiser": _SD2_ATTENTION, "controlnet": _SD2_ATTENTION},
    "stable-diffusion-xl": {"vae decoder": _SDXL_VAE, "vae encoder": _SDXL_VAE},
}


def rules_for(family: str, role: Role) -> Rules:
    """The rules of a component with that role in a bundle of `family`."""
    return _EXCEPTIONS.get(family, {}).get(role, Rules())
