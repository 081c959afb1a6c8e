"""Weights in float16: which ones it represents exactly, and the others rounded."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch

from sdrt_export.errors import ExportError


@dataclass(frozen=True)
class Rounded(Mapping[str, torch.Tensor]):
    """Weights rounded to float16, each when it is read: ExportError if it is too large."""

    network: str  # named in errors
    weights: Mapping[str, torch.Tensor]

    def __getitem__(self, name: str) -> torch.Tensor:
        weight = self.weights[name]
        rounded = weight.half()
        if not rounded.isfinite().all():
            raise ExportError(
                f"{self.network}: {name} reaches {weight.float().abs().max():.3g}, beyond "
                "float16's 65504: export with float32 weights"
            )
        return rounded

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def all_fit_half(weights: Mapping[str, torch.Tensor], names: Collection[str]) -> bool:
    """True if float16 represents each of these weights exactly. Reads until one does not fit."""
    return all(fits_half(weights[name]) for name in names)


def fits_half(weight: torch.Tensor) -> bool:
    """True if float16 represents the tensor exactly."""
    if weight.dtype == torch.float16:
        return True
    return bool(torch.equal(weight.half().to(weight.dtype), weight))
