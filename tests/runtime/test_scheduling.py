"""Schedules: if an image differs from that of diffusers' class, a note reports it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from sdrt.bundle.folder import Bundle
from sdrt.notes import Note
from sdrt.request import Request
from sdrt.resolving import settings_of
from sdrt.scheduling import schedule_of
from support.bundle_folder import write_json, write_onnx_folder

ZERO_SNR = {
    "_class_name": "DDIMScheduler",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "prediction_type": "v_prediction",
    "clip_sample": False,
}


def notes_of(folder: Path, config: dict[str, Any], scheduler: str | None) -> tuple[Note, ...]:
    write_json(folder / "scheduler" / "scheduler_config.json", config)
    request, bundle = Request("a", scheduler=scheduler, num_inference_steps=4), Bundle.open(folder)
    return schedule_of(request, settings_of(request, bundle), bundle)[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = write_onnx_folder(tmp_path / "bundle")
    shutil.rmtree(root / "tokenizer")
    return root


@pytest.mark.parametrize("scheduler", [None, "ddim", "ddpm", "euler", "dpmpp_2m", "unipc", "lcm"])
def test_classes_with_the_option_give_no_note(folder: Path, scheduler: str | None) -> None:
    assert notes_of(folder, ZERO_SNR, scheduler) == ()


@pytest.mark.parametrize("scheduler", ["heun", "kdpm2", "kdpm2_a", "lms", "pndm", "deis"])
def test_zero_snr_beyond_the_class_is_noted(folder: Path, scheduler: str) -> None:
    (note,) = notes_of(folder, ZERO_SNR, scheduler)
    assert (note.code, note.field) == ("scheduler_differs", "scheduler")
    assert "uses rescale_betas_zero_snr, as the model requires" in note.message


def test_a_correction_that_from_config_does_not_make_is_noted(folder: Path) -> None:
    (note,) = notes_of(folder, {"_class_name": "PNDMScheduler"}, "ddim")
    assert note.message == (
        "scheduler: DDIMScheduler runs with clip_sample False, as the model requires; diffusers' "
        "from_config sets True, so its images differ from these"
    )


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "DDPMScheduler", "clip_sample": True},  # corrected when the pipeline opens
        {"_class_name": "PNDMScheduler", "clip_sample": False},
        {"_class_name": "DDIMScheduler"},
    ],
)
def test_corrections_of_the_pipeline_itself_are_not(folder: Path, config: dict[str, Any]) -> None:
    assert notes_of(folder, config, "ddim") == ()
