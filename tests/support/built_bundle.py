"""A bundle that `sdrt build` has built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdrt.bundle.folder import Bundle
from support.command import Outcome

TARGET = "tensorrt-rtx:sm89"


@dataclass(frozen=True)
class Built:
    root: Path
    outcome: Outcome

    @property
    def bundle(self) -> Bundle:
        return Bundle.open(self.root)
