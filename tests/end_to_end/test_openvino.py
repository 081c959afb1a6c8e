"""The demo model on OpenVINO compared with the CPU backend, the reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdrt
from sdrt.command_line.main import main
from sdrt.targets.engines import open_engine
from sdrt_export.demo.grammar import ALL_SCENES, caption_from_scene
from sdrt_export.demo.judge import sight
from support.backends import skip_unless_it_opens

SCENES = [ALL_SCENES[i] for i in np.random.default_rng(4).choice(len(ALL_SCENES), 6, replace=False)]


def images(target: str) -> np.ndarray:
    """One per scene, (N, 128, 128, 3)."""
    prompts = [caption_from_scene(scene) for scene in SCENES]
    with sdrt.Pipeline.open("demo", target, num_threads=1) as pipeline:
        result = pipeline(prompts, seed=7, num_inference_steps=12)
    assert result.engine == target
    return np.stack([np.asarray(image) for image in result.images])


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return images("cpu")


def test_float32_generates_the_same_image(expected: np.ndarray) -> None:
    skip_unless_it_opens("openvino")
    difference = images("openvino").astype(int) - expected
    assert abs(difference).max() <= 2


def test_a_row_is_the_same_alone_in_a_batch_and_after_other_shapes() -> None:
    skip_unless_it_opens("openvino")
    bundle = sdrt.Bundle.open("demo")
    random = np.random.default_rng(3)

    def feeds(rows: int, height: int, width: int) -> dict[str, np.ndarray]:
        return {
            "sample": random.standard_normal((rows, 4, height, width), np.float32),
            "timestep": np.linspace(900, 10, rows, dtype=np.float32),
            "encoder_hidden_states": random.standard_normal((rows, 32, 96), np.float32),
        }

    sizes = [(16, 16), (8, 24), (12, 8)]
    batches = [feeds(rows, *size) for size in sizes for rows in (8, 3)]
    with open_engine(bundle, "unet", "openvino") as unet:
        together = [unet.run(each)["out_sample"] for each in batches]
        for each, expected in zip(batches[::-1], together[::-1], strict=True):
            for row in range(len(expected)):
                alone = {name: array[row : row + 1] for name, array in each.items()}
                np.testing.assert_array_equal(
                    unet.run(alone)["out_sample"], expected[row : row + 1]
                )


def test_bfloat16_generates_what_the_prompt_asks_for(expected: np.ndarray) -> None:
    skip_unless_it_opens("openvino:bf16")
    drawn = images("openvino:bf16")
    squared = (drawn.astype(float) - expected) ** 2
    psnr = 10 * np.log10(255**2 / squared.mean(axis=(1, 2, 3)))
    assert psnr.min() >= 30
    assert squared.any()  # other arithmetic, or bf16 did not run
    assert [sight(image) for image in drawn] == [sight(image) for image in expected]


def test_the_command_line_draws_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    skip_unless_it_opens("openvino")
    path = tmp_path / "out.png"
    size = ["-W", "64", "-H", "64", "--steps", "1", "--seed", "0"]
    assert (
        main(["run", "demo", "a red circle", *size, "--target", "openvino", "-o", str(path)]) == 0
    )
    assert "1 step on openvino in" in capsys.readouterr().err
    with Image.open(path) as image:
        assert json.loads(image.info["sdrt"])["prompt"] == "a red circle"
