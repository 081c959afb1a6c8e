from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from sdrt_engines.shape_profiles import Profile, Range
from sdrt_export.building.plan_from_onnx import PlanJob, build_plan, capability_of, failure_of
from sdrt_export.errors import BuildError
from support.half_graphs import node, write_network

pytestmark = pytest.mark.build


def job(tmp_path: Path) -> PlanJob:
    return PlanJob(
        model=write_network(tmp_path, [node("Relu", "x", "y")], {}),
        plan=tmp_path / "x.plan",
        rtx=True,
        profiles=(Profile({"x": (Range(1, 2, 4), Range.of(4))}),),
        architectures=("sm86", "sm120"),
    )


def test_a_job_outlives_json(tmp_path: Path) -> None:
    changed = replace(job(tmp_path), timing_cache=tmp_path / "cache")
    assert PlanJob.from_json(changed.to_json()) == changed


@pytest.mark.parametrize("architectures", [(), ("sm89",), ("sm86", "sm89", "sm120"), ("sm75",)])
def test_a_plan_is_written_and_its_cost_reported(
    tmp_path: Path, architectures: tuple[str, ...]
) -> None:
    changed = replace(job(tmp_path), architectures=architectures)
    figures = build_plan("tiny", changed)
    assert changed.plan.stat().st_size > 1000
    assert figures.seconds > 0
    assert figures.peak_memory is not None
    assert 1e7 < figures.peak_memory < 1e10


@pytest.mark.parametrize(
    ("architecture", "capability"), [("sm75", (7, 5)), ("sm89", (8, 9)), ("sm120", (12, 0))]
)
def test_architectures_as_capabilities(architecture: str, capability: tuple[int, int]) -> None:
    assert capability_of(architecture) == capability


def test_what_tensorrt_does_not_build_is_reported(tmp_path: Path) -> None:
    broken = job(tmp_path)
    broken.model.write_bytes(b"no ONNX")
    with pytest.raises(BuildError, match=r"^tiny: TensorRT cannot build it: .*[Pp]arse"):
        build_plan("tiny", broken)
    assert not broken.plan.exists()


def test_want_of_memory_is_reported() -> None:
    assert failure_of(-9, "", "").startswith("the system ended the build, most likely for lack of")


def test_a_failure_without_words_is_reported() -> None:
    assert "TensorRT cannot build it: exit code -11: " in failure_of(-11, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as raised:
        build_plan("tiny", replace(job(tmp_path), plan=Path("/dev/full")))
    assert raised.value.errno == errno.ENOSPC
