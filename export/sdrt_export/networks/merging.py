"""LoRAs merged into the parts of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sdrt.adapters.lora_on_models import changes_of
from sdrt_export.checkpoints.loras import ScaledLora
from sdrt_export.networks.loading import Part
from sdrt_export.networks.merged_weights import ScaledDeltas


def parts_with_loras(parts: Sequence[Part], loras: Sequence[ScaledLora]) -> list[Part]:
    """The parts of a checkpoint, into which the LoRAs will be merged in their order.

    FileError if a LoRA does not fit them completely.
    """
    if not loras:
        return [*parts]
    models = {
        part.kind.folder: {name: tuple(shape) for name, shape in part.shapes().items()}
        for part in parts
        if part.kind.purpose in ("denoiser", "text encoder")
    }
    merged: dict[str, ScaledDeltas] = {}
    for each in loras:
        for folder, deltas in changes_of(each.lora, models).items():
            if each.scale != 0:
                merged[folder] = (*merged.get(folder, ()), (deltas, each.scale))
    return [replace(part, loras=merged.get(part.kind.folder, ())) for part in parts]
