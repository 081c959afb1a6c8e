"""A pipeline computes on the given number of threads, and generates the same image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdrt
from sdrt.command_line.main import main
from support.backends import skip_unless_it_opens
from support.os_threads import needs_counting, os_threads
from support.waiting import wait_until

PROMPT = "a large red circle on a white background"
NETWORKS = ("text_encoder", "unet", "vae_decoder")  # that a prompt runs


def generated(target: str, num_threads: int | None) -> np.ndarray:
    with sdrt.Pipeline.open("demo", target, num_threads) as pipeline:
        (image,) = pipeline(PROMPT, seed=7, num_inference_steps=8).images
    return np.asarray(image, int)


@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_one_thread_generates_the_same_image(target: str) -> None:
    skip_unless_it_opens(target)
    assert abs(generated(target, 1) - generated(target, None)).max() <= 2


@needs_counting
@pytest.mark.parametrize("num_threads", [1, 3])
def test_the_cpu_computes_on_as_many(num_threads: int) -> None:
    generated("cpu", 1)  # starts threads that stay: this thread's worker, those of libraries
    before = os_threads()
    with sdrt.Pipeline.open("demo", "cpu", num_threads) as pipeline:
        pipeline(PROMPT, num_inference_steps=1)
        # The caller's thread is one of them. The threads that opened networks end soon.
        num_more = (num_threads - 1) * len(NETWORKS)
        wait_until(lambda: len(os_threads() - before) == num_more)


def test_the_command_line_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    options = ["--seed", "7", "--steps", "8", "--target", "cpu", "--num-threads", "1", "-q"]
    assert main(["run", "demo", PROMPT, *options, "-o", str(path)]) == 0
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image, int), generated("cpu", 1))
