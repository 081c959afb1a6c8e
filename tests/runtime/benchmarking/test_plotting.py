from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdrt.benchmarking.figures import Figure
from sdrt.benchmarking.plotting import require_matplotlib, save_plot
from sdrt.errors import SdrtError

pytestmark = pytest.mark.needs("matplotlib")

IMAGE = Figure("image", "s", (1.0, 1.5), "cpu")
STAGE = Figure("denoiser", "s", (0.75, 1.25), "cpu", notes={"part_of": "image"})
STEPS = Figure("denoising step", "s", (0.02, 0.03, 0.04), "cpu")
BATCH = Figure("batch 1", "images/s", (2.0, 2.5), "cpu", notes={"batch": 1})
REFUSED = Figure("batch 8", "images/s", (), "cpu", "out of memory", {"batch": 8})
COLD_START = [
    Figure(f"cold start to {event}", "s", (seconds,), "cpu")
    for event, seconds in (("ready", 0.5), ("first step", 1.0), ("first image", 2.0))
]
LATENCY = Figure(
    "latency",
    "s",
    (1.0, 2.0, 3.0),
    "cpu",
    notes={"scenario": "server", "verdict": "VALID: fast", "latency_bound": 4.0},
)
WITHOUT_BOUND = Figure(
    "latency", "s", (1.0,), "cpu", notes={"scenario": "single-stream", "verdict": "INVALID: few"}
)


@pytest.mark.parametrize(
    ("figures", "columns", "rows"),
    [
        ([IMAGE, STAGE, STEPS, BATCH, REFUSED, *COLD_START], 2, 2),
        ([IMAGE, STAGE, BATCH], 2, 1),  # an image of one step, and no cold start
        ([LATENCY], 1, 1),
        ([WITHOUT_BOUND], 1, 1),
    ],
)
def test_there_is_a_panel_for_each_kind(
    figures: Sequence[Figure], columns: int, rows: int, tmp_path: Path
) -> None:
    path = tmp_path / "bench.png"
    save_plot(path, "demo on cpu", figures)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (756 * columns, 504 * rows)
        pixels = np.asarray(image.convert("L"))
    height, width = pixels.shape
    for row in range(rows):
        for column in range(columns):
            panel = np.s_[row * height // rows :, column * width // columns :]
            assert (pixels[panel][: height // rows, : width // columns] < 128).mean() > 0.005


def test_what_differs_is_drawn_differently(tmp_path: Path) -> None:
    for name, seconds in (("a", 0.5), ("b", 5.0)):
        slow = Figure("denoiser", "s", (seconds,), "cpu", notes={"part_of": "image"})
        save_plot(tmp_path / f"{name}.png", "", [IMAGE, slow])
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_the_error_names_the_command_that_installs_matplotlib(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SdrtError) as caught:
        require_matplotlib()
    assert str(caught.value) == (
        "--plot needs matplotlib, which is not installed: pip install 'sdrt[plot]'"
    )
