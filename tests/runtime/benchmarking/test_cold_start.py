from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sdrt import BundleError, Request
from sdrt.benchmarking import first_image
from sdrt.benchmarking.cold_start import (
    WARMED,
    ColdStart,
    cold_start,
    cold_start_figures,
    start_figures,
)
from sdrt.benchmarking.workload import SETTINGS, Workload
from sdrt.errors import SdrtError
from support.toy_bundle import write_toy_bundle

REQUEST = Request("a red circle", num_inference_steps=2, seed=0, width=64, height=64)


def test_a_new_process_makes_an_image(tmp_path: Path) -> None:
    root = write_toy_bundle(tmp_path / "toy")
    large = np.ones(400_000_000, np.uint8)  # must not count in the other process
    start = cold_start(Workload(str(root), "cpu", REQUEST, num_threads=1))
    assert list(start.seconds) == ["ready", "first step", "first image"]
    assert 0 < start.seconds["ready"] <= start.seconds["first step"] <= start.seconds["first image"]
    assert 10_000_000 < start.memory["peak memory"] < large.nbytes
    assert start.target == "cpu"


@pytest.mark.parametrize(
    ("warm_up", "events"), [(None, ['{"event": "ready"}']), ({"sizes": [[64, 64]]}, [])]
)
def test_a_warmed_process_is_ready_when_its_networks_have_run(
    warm_up: object, events: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_toy_bundle(tmp_path / "toy")
    (root / "unet/model.onnx").unlink()  # running it is an error
    opening = {"bundle": str(root), "target": "cpu", "num_threads": 1}
    request = {name: getattr(REQUEST, name) for name in SETTINGS}
    with pytest.raises(BundleError, match=r"unet/model\.onnx: this file of the bundle is missing"):
        first_image.main({"open": opening, "request": request, "warm_up": warm_up})
    assert capsys.readouterr().out.splitlines() == events


def test_warmed_starts_have_names_of_their_own() -> None:
    start = ColdStart({"ready": 2.0, "first step": 2.5, "first image": 3.0}, {}, "cpu")
    names = [figure.name for figure in start_figures(WARMED, [start])]
    assert names == [f"warmed start to {event}" for event in start.seconds]


def test_what_the_process_refuses_is_said_here() -> None:
    with pytest.raises(
        SdrtError, match=r"no bundle at 'gone': create one with `sdrt export CHECKPOINT -o gone`"
    ):
        cold_start(Workload("gone", "cpu", REQUEST))


def test_a_process_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SdrtError) as caught:
        cold_start(Workload("demo", "cpu", REQUEST))
    assert str(caught.value) == (
        "the process that measures the cold start exited with 1 before its first image: "
        "try `sdrt run`, or leave this out with --cold-starts 0"
    )


def test_memory_that_is_unknown_has_no_figure() -> None:
    seconds = {"ready": 0.25, "first step": 0.5, "first image": 1.0}
    known = ColdStart(seconds, {"peak memory": 3_000_000, "GPU memory": 2_000_000}, "cuda")
    unknown = ColdStart(seconds, {"peak memory": 5_000_000}, "cuda")
    figures = {figure.name: figure for figure in cold_start_figures([known, unknown])}
    assert list(figures)[-1] == "peak memory"
    assert figures["peak memory"].values == (3.0, 5.0)
    assert figures["cold start to first step"].values == (0.5, 0.5)
    assert {figure.target for figure in figures.values()} == {"cuda"}
    assert "GPU memory in use" in {figure.name for figure in cold_start_figures([known])}


def test_processes_on_two_targets_are_an_error() -> None:
    seconds = {"ready": 0.25, "first step": 0.5, "first image": 1.0}
    starts = [ColdStart(seconds, {}, target) for target in ("cuda", "cpu (after cuda: busy)")]
    with pytest.raises(
        SdrtError, match=r"the target changed from cuda to cpu \(after cuda: busy\)"
    ):
        list(cold_start_figures(starts))
