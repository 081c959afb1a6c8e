"""The demo model with fewer calls: near the exact image, and repeatable from its PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import sdrt
from sdrt.arrays import psnr_of
from sdrt.command_line.main import main
from sdrt_export.demo.judge import sight

PROMPTS = ["a large red circle on a white background", "a small blue star on a yellow background"]
ON_CPU = ["--target", "cpu", "--num-threads", "1"]


def array(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(image)


@pytest.mark.parametrize("scheduler", ["dpmpp_2m", "euler_a"])
def test_half_of_the_calls_give_nearly_the_same_images(scheduler: str) -> None:
    with sdrt.Pipeline.open("demo", target="cpu", num_threads=1) as pipe:
        options: dict[str, Any] = {"seed": 7, "num_inference_steps": 20, "scheduler": scheduler}
        exact, forecast, fewer_steps = (
            pipe(PROMPTS, **options | changed).images
            for changed in ({}, {"forecast": 10}, {"num_inference_steps": 10})
        )
    for one, other, rival in zip(exact, forecast, fewer_steps, strict=True):
        distance = psnr_of(array(one).astype(float), array(other).astype(float))
        assert distance > 35
        assert distance > psnr_of(array(one).astype(float), array(rival).astype(float)) + 2
        assert sight(array(other)) == sight(array(one))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--steps", "10", "--forecast", "6", "--guidance-interval", "0:0.6"],
            ", 10 steps, 3 of them forecast, on cpu in ",
        ),
        (["--speed", "balanced"], " of them forecast (balanced: --forecast 6), on cpu in "),
    ],
)
def test_an_image_with_forecasts_is_made_again_from_its_png(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    seeded = [*options, "--seed", "7", *ON_CPU]
    assert main(["run", "demo", PROMPTS[0], *seeded, "-o", str(first)]) == 0
    assert said in capsys.readouterr().err
    assert main(["run", "--from-image", str(first), *ON_CPU, "-o", str(second)]) == 0
    assert array(Image.open(first)).tobytes() == array(Image.open(second)).tobytes()


def test_a_speed_replaces_the_options_of_a_png(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    options = ["--steps", "6", "--forecast", "5", "--seed", "7", *ON_CPU]
    assert main(["run", "demo", PROMPTS[0], *options, "-o", str(first)]) == 0
    again = ["run", "--from-image", str(first), "--speed", "exact", *ON_CPU, "-o", str(second)]
    assert main(again) == 0
    assert "forecast" not in capsys.readouterr().err.splitlines()[-1]
