"""Verdicts on targets with invented times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sdrt.bundle.folder import Bundle
from sdrt.errors import NonFiniteError, SdrtError
from sdrt.targets.tuned import Ends, Shape, StepTime, Trial, TunedTarget
from sdrt.tuning.candidates import Candidate
from sdrt.tuning.rounds import Measures, Part, Plan, measured
from sdrt.tuning.tune import tune
from sdrt_engines import Target
from support.invented_times import (
    AMD,
    INTEL,
    NUM_STEPS,
    OUT_OF_MEMORY,
    SHAPE,
    invented,
    plan_for,
    tuned_with,
)
from support.toy_bundle import write_toy_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_toy_bundle(tmp_path / "bundle"))


def ranking(found: tuple[TunedTarget, ...]) -> list[str]:
    return [each.target for each in found]


def test_on_intel_onnx_runtime_comes_first(bundle: Bundle) -> None:
    tuning = tuned_with(bundle, INTEL)
    assert ranking(tuning.ranking()) == ["cpu", "openvino", "openvino:bf16"]
    assert tuning.targets[0] == TunedTarget(
        "cpu", (Trial(None, (StepTime(5.8, 0.0),)),), (Ends(0.1, 1.0),)
    )
    assert tuning.seconds_per_image(tuning.targets[0]) == (0.1 + NUM_STEPS * 5.8 + 1.0,)


def test_on_amd_bfloat16_comes_first(bundle: Bundle) -> None:
    tuning = tuned_with(bundle, AMD)
    assert ranking(tuning.ranking()) == ["openvino:bf16", "openvino", "cpu"]


def test_what_is_not_float32_on_the_cpu_is_compared(bundle: Bundle) -> None:
    tuning = tuned_with(bundle, AMD | {"cuda": 0.1}, {"cuda": 28.0, "openvino:bf16": 48.0})
    assert {found.target: found.psnr for found in tuning.targets} == {
        "cuda": 28.0,
        "cpu": None,
        "openvino": None,
        "openvino:bf16": 48.0,
    }


def test_the_best_number_of_threads_is_kept(bundle: Bundle) -> None:
    steps = {"cpu": 5.0, "cpu with 4 threads": 4.0, "openvino": 6.0, "cuda": 1.0}
    tuning = tuned_with(bundle, steps, num_threads=(None, 4))
    best = {found.target: found.best.num_threads for found in tuning.targets if found.best}
    assert best == {"cpu": 4, "openvino": None, "cuda": None}
    counts = {found.target: len(found.trials) for found in tuning.targets}
    assert counts == {"cpu": 2, "openvino": 2, "cuda": 1}  # a GPU does not use threads


def test_candidates_take_turns_and_the_median_counts(bundle: Bundle) -> None:
    calls: list[tuple[str, Part]] = []
    seconds = iter([1.0, 10.0, 3.0, 30.0, 1.4, 14.0])

    def take_down(candidate: Candidate, shape: Shape, part: Part) -> float:
        calls.append((str(candidate), part))
        return next(seconds) if part == "step" else 0.5

    found = measured(plan_for(bundle, ["cpu", "openvino"]), Measures(take_down, lambda target: 0))
    assert calls == [
        *[("cpu", "step"), ("openvino", "step")] * 3,
        *[("cpu", "text"), ("cpu", "decode"), ("openvino", "text"), ("openvino", "decode")],
    ]
    assert found[0].trials == (Trial(None, (StepTime(1.4, 1.0),)),)
    assert found[1].trials == (Trial(None, (StepTime(14.0, 10.0),)),)


def test_the_number_of_measurements_is_known_beforehand(bundle: Bundle) -> None:
    calls = []

    def seconds(*arguments: object) -> float:
        calls.append(arguments)
        return 1.0

    def psnr(target: Target) -> float:
        calls.append((target,))
        return 60.0

    plan = plan_for(bundle, ["cpu", "openvino:bf16", "cuda"], (None, 2), (SHAPE, Shape(64, 64)))
    measured(plan, Measures(seconds, psnr))
    assert len(calls) == plan.num_measurements


# --- failures


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OUT_OF_MEMORY, "unet: out of memory"),
        (MemoryError(), "there is not enough memory"),
        (NonFiniteError("unet: 3 of 9\noutput values are NaN"), "unet: 3 of 9 output values"),
    ],
)
def test_a_target_that_fails_has_its_reason_and_others_go_on(
    error: Exception, reason: str, bundle: Bundle
) -> None:
    tuning = tuned_with(bundle, INTEL | {"openvino": error})
    assert ranking(tuning.ranking()) == ["cpu", "openvino:bf16"]
    failed = tuning.of(Target("openvino"))
    assert failed is not None
    assert failed.error is not None
    assert failed.error.startswith(reason)


def test_a_number_of_threads_may_fail(bundle: Bundle) -> None:
    tuning = tuned_with(
        bundle, {"cpu": 5.0, "cpu with 64 threads": OUT_OF_MEMORY}, num_threads=(64, None)
    )
    (cpu,) = tuning.targets
    assert cpu.trials[0] == Trial(64, error="unet: out of memory")
    assert cpu.best == cpu.trials[1]
    assert cpu.error is None


@pytest.mark.parametrize("part", ["text", "decode"])
def test_any_part_may_fail(part: Part, bundle: Bundle) -> None:
    def seconds(candidate: Candidate, shape: Shape, measured_part: Part) -> float:
        if measured_part == part:
            raise OUT_OF_MEMORY
        return 1.0

    (cpu,) = measured(plan_for(bundle, ["cpu"]), Measures(seconds, lambda target: None))
    assert cpu.error == "unet: out of memory"
    assert len(cpu.trials[0].steps) == 1


def test_what_cannot_be_compared_fails(bundle: Bundle) -> None:
    tuning = tuned_with(bundle, INTEL, {"openvino:bf16": NonFiniteError("vae_decoder: NaN")})
    assert ranking(tuning.ranking()) == ["cpu", "openvino"]


def test_if_everything_fails_there_is_no_verdict(bundle: Bundle) -> None:
    steps = {"cpu": OUT_OF_MEMORY, "openvino": OUT_OF_MEMORY}
    with pytest.raises(SdrtError, match=r"nothing was recorded: cpu: unet: out .*; openvino: unet"):
        tuned_with(bundle, steps)


# --- several shapes


def test_every_shape_counts_alike(bundle: Bundle) -> None:
    """`openvino` takes half as long at the small shape and 1.5 times as long at the large one."""
    small, large = Shape(64, 64), Shape(512, 512)
    seconds = {("cpu", small): 2.0, ("openvino", small): 1.0}
    seconds |= {("cpu", large): 100.0, ("openvino", large): 150.0}

    def taken(candidate: Candidate, shape: Shape, part: Part) -> float:
        return seconds[str(candidate), shape] if part == "step" else 1e-6

    plan = plan_for(bundle, ["cpu", "openvino"], shapes=(small, large))
    tuning = tune(bundle, plan, Measures(taken, lambda target: None), NUM_STEPS)
    assert ranking(tuning.ranking()) == ["openvino", "cpu"]
    one = tune(bundle, replace(plan, shapes=(large,)), Measures(taken, lambda target: None), 50)
    assert ranking(one.ranking()) == ["cpu", "openvino"]


def test_a_batch_is_as_many_images(bundle: Bundle) -> None:
    plan = Plan(plan_for(bundle, ["cpu"]).candidates, (SHAPE, replace(SHAPE, batch=4)))
    tuning = tune(bundle, plan, invented(INTEL), NUM_STEPS)
    one, four = tuning.seconds_per_image(tuning.targets[0])
    assert one == pytest.approx(four)
