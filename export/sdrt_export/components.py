"""The networks of a checkpoint, and ControlNets, exported.

Imports torch when the first one is exported: checks come before, and take no time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from sdrt.bundle.manifest import Component
from sdrt_export.checkpoints.checkpoint import Checkpoint
from sdrt_export.checkpoints.controlnet import ControlNetCheckpoint
from sdrt_export.checkpoints.loras import ScaledLora
from sdrt_export.errors import ExportError, missing_library_as
from sdrt_export.options import Report, WeightStorage


def components_of_checkpoint(
    checkpoint: Checkpoint,
    bundle: Path,
    weights: WeightStorage,
    report: Report,
    loras: Iterable[ScaledLora] = (),
) -> Iterator[Component]:
    with _libraries():
        from sdrt_export.component import export_part
        from sdrt_export.networks.loading import parts_from_checkpoint, parts_with_loras
    for part in parts_with_loras(parts_from_checkpoint(checkpoint), loras):
        yield from export_part(part, bundle, weights, report)


def components_of_controlnets(
    controlnets: Iterable[ControlNetCheckpoint],
    bundle: Path,
    weights: WeightStorage,
    report: Report,
) -> Iterator[Component]:
    with _libraries():
        from sdrt_export.component import export_part
        from sdrt_export.networks.loading import part_from_controlnet
    for controlnet in controlnets:
        for component in export_part(part_from_controlnet(controlnet), bundle, weights, report):
            yield dataclasses.replace(component, source=controlnet.source)


def _libraries() -> AbstractContextManager[None]:
    """Surrounds imports that take seconds, which therefore come after the checks."""
    return missing_library_as(ExportError, "an export", "'sdrt[export]'")
