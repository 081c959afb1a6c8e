"""Full-size checkpoints with random weights, by name."""

from __future__ import annotations

from pathlib import Path

from sdrt_export.architectures import SD15, SD21, SDXL, SDXL_REFINER
from sdrt_export.synthetic import make_checkpoint, make_controlnet

MODELS = {
    "Stable Diffusion 1.5": SD15,
    "Stable Diffusion 2.1": SD21,
    "SDXL": SDXL,
    "SDXL's refiner": SDXL_REFINER,
}
CONTROLLED = (SD15, SDXL)  # the architectures that are measured with a ControlNet


def make_model(name: str, folder: Path) -> Path:
    """Writes a checkpoint in float16, with a ControlNet inside, into the folder."""
    architecture = MODELS[name]
    make_checkpoint(folder, architecture)
    if architecture in CONTROLLED:
        make_controlnet(folder / "controlnet_edges", architecture)
    return folder
