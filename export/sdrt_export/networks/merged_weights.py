"""The weights of a model with LoRAs merged into them, each when it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from sdrt.adapters.lora_on_models import Deltas
from sdrt_export.errors import CheckpointError

ScaledDeltas: TypeAlias = tuple[tuple[Deltas, float], ...]  # in the order in which they are merged


@dataclass(frozen=True)
class MergedWeights(Mapping[str, torch.Tensor]):
    """Weights by their names in the model; those that a LoRA changes are float32."""

    title: str  # of the model, in errors
    weights: Mapping[str, torch.Tensor]
    loras: ScaledDeltas

    def __getitem__(self, name: str) -> torch.Tensor:
        weight = self.weights[name]
        changes = [(deltas[name], scale) for deltas, scale in self.loras if name in deltas]
        if not changes:
            return weight
        values = weight.float().numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            for delta, scale in changes:
                values = delta.merged(values, scale)
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"{self.title}: {name} is infinite with the LoRAs: scale them less"
            )
        return torch.from_numpy(values)

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)
