"""A text encoder's table of tokens with the rows of new ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from sdrt_export.checkpoints.new_tokens import NewTokens


@dataclass(frozen=True)
class ExtendedTable(Mapping[str, torch.Tensor]):
    """Weights whose table has the rows of new tokens, in float32; the others as they are."""

    weights: Mapping[str, torch.Tensor]
    table: str  # its name
    tokens: NewTokens

    def __getitem__(self, name: str) -> torch.Tensor:
        weight = self.weights[name]
        return extended(weight, self.tokens) if name == self.table else weight

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def extended(table: torch.Tensor, tokens: NewTokens) -> torch.Tensor:
    """The table (N, D) in float32 with the rows of the tokens."""
    rows = torch.zeros(tokens.num_rows(len(table)), table.shape[1])
    rows[: len(table)] = table
    for index, values in tokens.rows.items():
        rows[index] = torch.from_numpy(values)
    return rows
