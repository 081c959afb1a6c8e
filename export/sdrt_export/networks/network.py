"""The form that each part of a checkpoint takes: flat tensors in and out, named as in a bundle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from sdrt.bundle.optimum_folder import MODEL_NAME
from sdrt.families.family import Role
from sdrt_engines import Signature, TensorSpec


@dataclass(frozen=True)
class TraceSize:
    """Values for the sizes that networks leave open. Height and width count latent pixels."""

    batch: int
    height: int
    width: int
    sequence: int


class Network(nn.Module, ABC):
    """A part of a checkpoint behind a flat signature, in float32.

    The part is `model`; weights keep the names that they have in it.
    """

    name: str
    role: Role
    takes: frozenset[str] = frozenset()  # see `Component`, as for `variant`
    variant: str | None = None
    file_name = MODEL_NAME
    signature: Signature

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.float().eval().requires_grad_(False)

    @abstractmethod
    def inputs_at(self, size: TraceSize, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Random inputs in the order of the signature."""

    def simplify(self) -> None:
        """Prepares tracing: the model then computes the same in simpler operations."""


def float32(name: str, *shape: int | str) -> TensorSpec:
    """The spec of a float32 tensor."""
    return TensorSpec(name, np.dtype(np.float32), shape)
