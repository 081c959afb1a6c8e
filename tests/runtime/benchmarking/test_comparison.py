"""Two speeds compared on a bundle of real networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sdrt import Request, SdrtError
from sdrt.benchmarking.comparison import Comparison
from sdrt.benchmarking.figures import Figure
from sdrt.benchmarking.workload import Workload
from support.toy_bundle import write_toy_bundle

REQUEST = Request(
    "a red circle", seed=0, width=64, height=64, scheduler="euler", guidance_scale=2.0
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_toy_bundle(tmp_path / "toy")


def figures(root: Path, comparison: Comparison, num_steps: int = 20) -> dict[str, Figure]:
    request = replace(REQUEST, num_inference_steps=num_steps)
    workload = Workload(str(root), "cpu", request)
    return {figure.name: figure for figure in comparison.figures(workload)}


def test_both_run_the_same_requests_in_turns(root: Path) -> None:
    found = figures(root, Comparison("balanced", "exact", runs=3))
    assert [*found] == [
        *("image, balanced", "image, exact", "relative time", "PSNR", "SSIM"),
        "PSNR of fewer steps",
    ]
    pairs = zip(found["image, balanced"].values, found["image, exact"].values, strict=True)
    assert found["relative time"].values == tuple(one / other for one, other in pairs)
    assert found["image, balanced"].notes["calls"] < found["image, exact"].notes["calls"] == 20
    assert all(len(figure.values) == 3 for figure in found.values())


def test_the_rival_is_as_near_with_the_fewest_steps(root: Path) -> None:
    found = figures(root, Comparison("balanced", "exact", runs=3))
    own, rival = found["PSNR"].summary, found["PSNR of fewer steps"]
    assert rival.summary.p50 >= own.p50
    assert rival.summary.p90 >= own.p90
    steps, calls = rival.notes["steps"], found["image, balanced"].notes["calls"]
    assert rival.notes["calls"] == steps <= 20
    assert rival.notes["relative calls"] == round(calls / steps, 3)


def test_against_another_preset_there_is_no_rival(root: Path) -> None:
    found = figures(root, Comparison("exact", "balanced", runs=1))
    assert "PSNR of fewer steps" not in found


def test_equal_work_is_not_compared(root: Path) -> None:
    with pytest.raises(SdrtError) as caught:
        figures(root, Comparison("fast", "exact"), num_steps=19)
    assert str(caught.value).startswith(
        "--speed fast does the same here as exact, on cpu: there is nothing to compare (speed: "
        "'fast' leaves out nothing here, "
    )
