from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sdrt import Request
from sdrt.benchmarking.overview import Overview, batch_figure, image_figures
from sdrt.benchmarking.workload import Run, Workload
from sdrt.timings import Timings
from sdrt_engines import Array, EngineError
from support.function_networks import UNET, Function, Networks, pipeline_of, predict
from support.toy_bundle import write_toy_bundle

REQUEST = Request("a red circle", num_inference_steps=2, seed=0, width=64, height=64)


def run(denoiser: float, host: float, *steps: float) -> Run:
    return Run(Timings({"denoiser": denoiser}, host, denoiser + host), steps, "cpu")


def test_stages_are_parts_of_the_image() -> None:
    image, *stages = image_figures([run(1.0, 0.5), run(2.0, 0.25)])
    assert image.values == (1.5, 2.25)
    assert {stage.name: stage.values for stage in stages} == {
        "denoiser": (1.0, 2.0),
        "host": (0.5, 0.25),
    }
    assert {stage.notes["part_of"] for stage in stages} == {"image"}


def test_steps_of_all_runs_are_one_figure() -> None:
    *_, seconds, rates = image_figures([run(1.0, 0.5, 0.25, 0.5), run(2.0, 0.25, 0.125, 0.5)])
    assert (seconds.name, seconds.values) == ("denoising step", (0.25, 0.5, 0.125, 0.5))
    assert (rates.unit, rates.values) == ("it/s", (4.0, 2.0, 8.0, 2.0))


def fails_from_two_images(feeds: dict[str, Array]) -> dict[str, Array]:
    if len(feeds["sample"]) > 2:  # two branches of one image
        raise EngineError("unet:\nout of memory")
    return predict(feeds)


def not_a_number(feeds: dict[str, Array]) -> dict[str, Array]:
    return {"out_sample": np.full_like(feeds["sample"], np.nan)}


@pytest.mark.parametrize(
    ("unet", "reason"),
    [(fails_from_two_images, "unet: out of memory"), (not_a_number, "unet: ")],
)
def test_a_batch_that_is_refused_says_so(unet: Function, reason: str, tmp_path: Path) -> None:
    root = write_toy_bundle(tmp_path / "toy")
    pipeline = pipeline_of(root, Networks(unet=(UNET, unet)), guidance_scale=3.0)
    figure = batch_figure(pipeline, Workload(str(root), "cpu", REQUEST), batch=2, num_runs=1)
    assert (figure.name, figure.values, figure.target) == ("batch 2", (), "cpu")
    assert figure.refusal is not None
    assert figure.refusal.startswith(reason)


def test_the_figures_of_a_bundle(tmp_path: Path) -> None:
    root = write_toy_bundle(tmp_path / "toy")
    said: list[str] = []
    overview = Overview(runs=3, batches=(1, 2), cold_starts=0, warmed_starts=1)
    figures = list(overview.figures(Workload(str(root), "auto", REQUEST), said.append))
    assert {figure.name: len(figure.values) for figure in figures} == {
        **{f"warmed start to {event}": 1 for event in ("ready", "first step", "first image")},
        **dict.fromkeys(("image", "loading", "text_encoder", "denoiser", "vae_decoder", "host"), 3),
        **dict.fromkeys(("denoising step", "denoising steps"), 3),
        "batch 1": 3,
        "batch 2": 2,
    }
    assert said == [
        "warmed start",
        "warm-up 1 of 1",
        *(f"run {number} of 3" for number in (1, 2, 3)),
        *("batch 1", "batch 2"),
    ]
