"""The networks of a checkpoint, and those that are added to it, exported.

Imports torch when the first one is exported: checks come before, and take no time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from sdrt.bundle.manifest import Component
from sdrt_export.checkpoints.checkpoint import Checkpoint
from sdrt_export.checkpoints.controlnet import ControlNetCheckpoint
from sdrt_export.checkpoints.vae import TinyVae
from sdrt_export.errors import ExportError, missing_library_as
from sdrt_export.options import Report, WeightStorage


@dataclass(frozen=True)
class Additions:
    """Models that a bundle has in addition to those of its checkpoint."""

    controlnets: tuple[ControlNetCheckpoint, ...] = ()
    tiny_vae: TinyVae | None = None


def components_of_checkpoint(
    checkpoint: Checkpoint, bundle: Path, weights: WeightStorage, report: Report
) -> Iterator[Component]:
    with _libraries():
        from sdrt_export.component import export_part
        from sdrt_export.networks.loading import parts_from_checkpoint
    for part in parts_from_checkpoint(checkpoint):
        yield from export_part(part, bundle, weights, report)


def components_of_additions(
    additions: Additions, bundle: Path, weights: WeightStorage, report: Report
) -> Iterator[Component]:
    if additions == Additions():
        return
    with _libraries():
        from sdrt_export.component import export_part
        from sdrt_export.networks.loading import part_from_controlnet, parts_from_vae
    parts = [part_from_controlnet(each, added=True) for each in additions.controlnets]
    if (vae := additions.tiny_vae) is not None:
        parts += parts_from_vae(vae, vae.latents)
    for part in parts:
        yield from export_part(part, bundle, weights, report)


def _libraries() -> AbstractContextManager[None]:
    """Surrounds imports that take seconds, which therefore come after the checks."""
    return missing_library_as(ExportError, "an export", "'sdrt[export]'")
