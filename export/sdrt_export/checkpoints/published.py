"""The published model that a single file is a variant of, with the options that no file records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sdrt.adapters.found import CheckpointFile, FamilyName, Prediction
from sdrt.adapters.safetensors import SafetensorsFile
from sdrt.notes import Note
from sdrt_export.architectures import (
    SD15,
    SD21,
    SD21_BASE,
    SDXL,
    SDXL_REFINER,
    Architecture,
)
from sdrt_export.checkpoints.original.names import count_of

_PUBLISHED: Mapping[FamilyName, Architecture] = {
    "stable-diffusion-1": SD15,
    "stable-diffusion-2": SD21_BASE,
    "stable-diffusion-xl": SDXL,
    "stable-diffusion-xl-refiner": SDXL_REFINER,
}
_INPAINTING = 9  # channels: the latents, a mask, and the masked image
# For a model of zero terminal SNR: sampling has to start at the last timestep.
# Source: Lin et al. 2024, https://arxiv.org/abs/2305.08891.
_RESCALED = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


@dataclass(frozen=True)
class Predicted:
    """The meaning of a UNet's output, and how it is known."""

    prediction: Prediction
    zero_terminal_snr: bool = False
    notes: tuple[Note, ...] = ()


def predicted_by(
    file: SafetensorsFile, found: CheckpointFile, given: Prediction | None
) -> Predicted:
    """The prediction of a file's UNet; `given` is the user's choice, which overrides it.

    An empty tensor `v_pred`, or the metadata, says so, and `ztsnr` that it was trained with zero
    terminal SNR. UNets of SD2 are published with both predictions, and older files say nothing.
    """
    prediction, notes = given or found.prediction, list[Note]()
    if prediction is None and found.family == "stable-diffusion-2":
        prediction = _prediction_of_sd2(file, found)
        notes.append(_assumed(prediction))
    prediction = prediction or "epsilon"
    return Predicted(prediction, found.zero_terminal_snr and prediction != "epsilon", tuple(notes))


def _prediction_of_sd2(file: SafetensorsFile, found: CheckpointFile) -> Prediction:
    """A guess from the biases of the last transformer, which spread more where v is predicted.

    Source: `SD20.model_type` in ComfyUI. diffusers takes any file for one that predicts v.
    """
    last = count_of(f"{found.prefix}output_blocks", file.tensors) - 1
    key = f"{found.prefix}output_blocks.{last}.1.transformer_blocks.0.norm1.bias"
    if found.in_channels == _INPAINTING or key not in file.tensors:
        return "epsilon"
    return "v_prediction" if np.std(file.read(key)) > 0.09 else "epsilon"


def _assumed(prediction: Prediction) -> Note:
    other = "epsilon" if prediction == "v_prediction" else "v_prediction"
    return Note(
        code="prediction_assumed",
        field="prediction_type",
        message=f"prediction_type: {prediction} is assumed, because the file does not record it: "
        f"if images are noise, export again with --prediction-type {other}",
    )


def published_model(found: CheckpointFile, predicted: Predicted) -> Architecture:
    """The configurations of the published model that the file has the layers of."""
    published = _PUBLISHED[found.family]
    if found.family == "stable-diffusion-2" and predicted.prediction == "v_prediction":
        published = SD21
    pipeline = published.pipeline
    if found.in_channels == _INPAINTING:
        pipeline = pipeline.replace("Pipeline", "InpaintPipeline")
    scheduler = {**published.scheduler, "prediction_type": predicted.prediction}
    if predicted.zero_terminal_snr:
        scheduler |= _RESCALED
        if scheduler["_class_name"] == "PNDMScheduler":  # has no such option
            scheduler |= {"_class_name": "DDIMScheduler", "clip_sample": False}
    return replace(published, pipeline=pipeline, scheduler=scheduler)
