"""Bundles with the results of `sdrt build`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdrt.bundle.folder import Bundle
from sdrt_engines import Target
from sdrt_export.building.builder import BuildOptions
from sdrt_export.building.builders import builder_of
from support.command import Outcome

TARGET = "tensorrt-rtx:sm89"


@dataclass(frozen=True)
class Built:
    root: Path
    outcome: Outcome

    @property
    def bundle(self) -> Bundle:
        return Bundle.open(self.root)


def build_for(
    target: str, root: Path, *, report: Callable[[str], None] = lambda line: None, **options: Any
) -> list[Path]:
    """Builds into the bundle at `root` like `sdrt build`, in this process."""
    parsed = Target.parse(target)
    return builder_of(parsed).build(Bundle.open(root), parsed, BuildOptions(**options), report)
