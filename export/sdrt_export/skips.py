"""The skip connections of a UNet, which is where ControlNets add to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Skip:
    """One connection: its channels, and how many latents one of its pixels stands for each way.

    Sizes are rounded up: of 9 latents, a scale of 2 leaves 5.
    """

    channels: int
    scale: int

    def size(self, latents: int) -> int:
        """Height or width of the connection, by that of the latents."""
        return -(-latents // self.scale)

    def size_name(self, latents: str) -> str:
        """The same for a size that has a name."""
        return latents if self.scale == 1 else f"ceil({latents}/{self.scale})"


def skips_from_config(config: Mapping[str, Any]) -> tuple[Skip, ...]:
    """The connections in the order of ControlNet's residuals; the middle block's output comes last.

    `config` is that of a UNet or a ControlNet. Source: `UNet2DConditionModel` of diffusers, whose
    blocks keep the output of each layer and of each downsampling.
    """
    channels, layers = config["block_out_channels"], config["layers_per_block"]
    if isinstance(layers, int):
        layers = [layers] * len(channels)
    skips = [Skip(channels[0], 1)]
    for level, (width, num_layers) in enumerate(zip(channels, layers, strict=True)):
        skips += [Skip(width, 2**level)] * num_layers
        if level + 1 < len(channels):
            skips.append(Skip(width, 2 ** (level + 1)))
    return *skips, Skip(channels[-1], 2 ** (len(channels) - 1))
