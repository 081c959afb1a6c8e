"""A1111's prompt syntax on the command line, with the built-in model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdrt.command_line.main import main

PROMPT = "a (red:1.4) circle BREAK [dull] <lora:x:1>"
NEGATIVE = "a [blue:yellow:1] (star)"
FIELDS = "Steps: 2, Sampler: Euler a, CFG scale: 3, Seed: 5, Size: 32x32"
SAME = ["--steps", "2", "--scheduler", "euler_a", "--guidance-scale", "3", "--seed", "5"]
RUN = ["run", "demo", PROMPT, "-n", NEGATIVE, "-W", "32", "-H", "32", *SAME, "--target", "cpu"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def pixels(name: str) -> np.ndarray:
    with Image.open(name) as image:
        return np.asarray(image)


def texts(name: str) -> dict[str, str]:
    with Image.open(name) as image:
        return {str(key): str(value) for key, value in image.info.items()}


def run(*arguments: str) -> None:
    assert main([*arguments]) == 0


def test_an_image_with_weights_is_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    run(*RUN, "--prompt-syntax", "a1111", "-o", "one.png")
    assert "prompt: <lora:x:1> is left out" in capsys.readouterr().err
    run("run", "--from-image", "one.png", "--target", "cpu", "-o", "again.png")
    assert Path("again.png").read_bytes() == Path("one.png").read_bytes()
    written = texts("one.png")
    assert json.loads(written["sdrt"])["prompt_syntax"] == "a1111"
    assert written["parameters"].startswith(f"{PROMPT}\nNegative prompt: {NEGATIVE}\nSteps: 2")
    assert "Prompt syntax" not in written["parameters"]
    run(*RUN, "-o", "plain.png")
    assert (pixels("plain.png") != pixels("one.png")).any()


def test_an_image_of_a1111_is_read_in_its_syntax(capsys: pytest.CaptureFixture[str]) -> None:
    info = PngInfo()
    info.add_text("parameters", f"{PROMPT}\nNegative prompt: {NEGATIVE}\n{FIELDS}")
    Image.new("RGB", (8, 8)).save("theirs.png", pnginfo=info)
    run("run", "demo", "--from-image", "theirs.png", "--target", "cpu", "-o", "ours.png")
    assert "not honour" not in capsys.readouterr().err
    run(*RUN, "--prompt-syntax", "a1111", "-o", "one.png")
    np.testing.assert_array_equal(pixels("ours.png"), pixels("one.png"))
    assert texts("ours.png")["parameters"].splitlines()[:2] == [
        PROMPT,
        f"Negative prompt: {NEGATIVE}",
    ]
    again = ["run", "demo", "--from-image", "theirs.png", "--target", "cpu"]
    run(*again, "--prompt-syntax", "plain", "-o", "plain.png")
    assert "prompt: '(red:1.4)' is read as words" in capsys.readouterr().err
    assert (pixels("plain.png") != pixels("ours.png")).any()
