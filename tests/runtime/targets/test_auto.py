"""The choice of `auto`: as measured, else in its own order, and only admitted targets."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from sdrt import Pipeline
from sdrt.bundle.folder import Bundle
from sdrt.parameters import Speed
from sdrt.targets.auto import warn_if_slower
from sdrt.targets.resolving import resolve
from sdrt.targets.tuned_file import tuning_path
from sdrt_engines import Backend, EngineError, Resolution, Target, TargetError
from support.backends import opening, refusing, skip_unless_it_opens
from support.built_records import ingredients_of, write_half_graph, write_plan
from support.invented_times import AMD, INTEL, OUT_OF_MEMORY, tuned_with
from support.toy_bundle import write_toy_bundle

CPUS = [opening("cpu"), opening("openvino")]
WITH_GPU = [opening("cuda"), *CPUS]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_toy_bundle(tmp_path / "bundle"))


def order(bundle: Bundle, backends: list[Backend], speed: Speed = "exact") -> list[str]:
    """The choice of `auto`, and its next choices after each failure."""
    resolution, taken = resolve(bundle, "auto", backends, speed=speed), []
    while True:
        taken.append(str(resolution.target))
        try:
            resolution = resolution.after(EngineError("unet: device lost"))
        except EngineError:
            return taken


def reasons(resolution: Resolution) -> dict[str, str]:
    return {str(refusal.target): refusal.reason for refusal in resolution.refusals}


# --- order


def test_until_tuned_the_order_is_that_of_the_backends(bundle: Bundle) -> None:
    assert order(bundle, WITH_GPU) == ["cuda", "cpu", "openvino"]


@pytest.mark.parametrize(
    ("steps", "expected"), [(INTEL, ["cpu", "openvino"]), (AMD, ["openvino", "cpu"])]
)
def test_the_fastest_in_float32_comes_first(
    steps: dict[str, float], expected: list[str], bundle: Bundle
) -> None:
    """On AMD `openvino:bf16` is the fastest, but not the same image."""
    tuned_with(bundle, steps)
    assert order(bundle, CPUS) == expected


def test_what_was_not_measured_comes_after(bundle: Bundle) -> None:
    tuned_with(bundle, {"openvino": 4.1})
    assert order(bundle, WITH_GPU) == ["openvino", "cuda", "cpu"]


def test_a_target_that_no_longer_opens_is_passed_over(bundle: Bundle) -> None:
    tuned_with(bundle, AMD)
    resolution = resolve(bundle, "auto", [opening("cpu"), refusing("openvino", "not installed")])
    assert resolution.target == Target("cpu")
    assert reasons(resolution) == {"openvino": "not installed"}


def test_a_broken_verdict_is_ignored(bundle: Bundle) -> None:
    tuned_with(bundle, AMD)
    tuning_path(bundle).write_text("{}")
    assert order(bundle, CPUS) == ["cpu", "openvino"]


# --- admission


def test_a_gpu_is_admitted_from_30_decibels_on(bundle: Bundle) -> None:
    for psnr, expected in ((30.0, ["cuda", "cpu"]), (29.9, ["cpu"])):
        tuned_with(bundle, {"cpu": 5.0, "cuda": 0.1}, {"cuda": psnr})
        assert order(bundle, [opening("cuda"), opening("cpu")]) == expected


def test_what_was_measured_outweighs_what_the_build_found(bundle: Bundle) -> None:
    write_half_graph(bundle.root, bundle.component("unet"), psnr=25.0)
    tuned_with(bundle, {"cpu": 5.0, "cuda": 0.1}, {"cuda": 45.0})
    assert order(bundle, [opening("cuda"), opening("cpu")]) == ["cuda", "cpu"]


def test_a_target_that_failed_when_tuned_is_not_admitted(bundle: Bundle) -> None:
    tuned_with(bundle, INTEL | {"cuda": OUT_OF_MEMORY})
    resolution = resolve(bundle, "auto", [opening("openvino"), opening("cuda")])
    assert resolution.target == Target("openvino")
    assert order(bundle, [opening("openvino"), opening("cuda")]) == ["openvino"]
    with pytest.raises(TargetError, match="cuda: it failed when it was tuned: unet: out of memory"):
        resolve(bundle, "auto", [opening("cuda")])


@pytest.mark.parametrize("psnr", [None, 30.0])
def test_before_tuning_the_build_s_figure_admits(psnr: float | None, bundle: Bundle) -> None:
    unet = bundle.component("unet")
    write_half_graph(bundle.root, unet, psnr=psnr)
    write_plan(bundle.root, ingredients_of(bundle.root, unet), psnr=psnr)
    backends = [opening("tensorrt-rtx"), opening("cuda"), opening("cpu")]
    assert order(bundle, backends) == ["tensorrt-rtx", "cuda", "cpu"]


def test_before_tuning_the_build_s_figure_refuses_and_a_named_target_opens(bundle: Bundle) -> None:
    unet = bundle.component("unet")
    write_half_graph(bundle.root, unet, psnr=29.0)
    write_plan(bundle.root, ingredients_of(bundle.root, unet), psnr=12.0)
    backends = [opening("tensorrt-rtx"), opening("cuda"), opening("cpu")]
    resolution = resolve(bundle, "auto", backends)
    assert resolution.target == Target("cpu")
    far = "unet: it is {} dB from float32, expected 30 dB or more: build it in another precision, "
    far += "or name it to use it anyway"
    assert reasons(resolution) == {"tensorrt-rtx": far.format(12.0), "cuda": far.format(29.0)}
    for name in ("tensorrt-rtx", "cuda"):
        assert resolve(bundle, name, backends).target == Target(name)


def test_a_graph_of_another_network_is_not_asked(bundle: Bundle) -> None:
    """It does not run."""
    write_half_graph(bundle.root, bundle.component("unet"), psnr=12.0)
    other = Bundle.open(write_toy_bundle(bundle.root.parent / "other", nan_from="unet"))
    (bundle.root / "engines").rename(other.root / "engines")
    assert order(other, [opening("cuda"), opening("cpu")]) == ["cuda", "cpu"]


@pytest.mark.parametrize("name", ["cuda", "tensorrt-rtx"])
def test_what_was_built_must_be_there_and_whole(name: str, bundle: Bundle) -> None:
    unet = bundle.component("unet")
    write_half_graph(bundle.root, unet)
    write_plan(bundle.root, ingredients_of(bundle.root, unet))
    (built,) = (bundle.root / "engines" / name).rglob("*.[op][nl][na][xn]")  # .onnx or .plan
    backends = [opening(name), opening("cpu")]
    assert order(bundle, backends) == [name, "cpu"]
    built.write_bytes(b"cut")
    assert "is missing or has changed: run `sdrt build` again" in str(
        reasons(resolve(bundle, "auto", backends))
    )
    built.unlink()
    assert order(bundle, backends) == ["cpu"]


# --- speed


@pytest.mark.parametrize("speed", ["balanced", "fast"])
def test_a_speed_admits_a_lower_precision_that_was_measured(speed: Speed, bundle: Bundle) -> None:
    backends = [opening("cpu"), in_precisions("fp32", "bf16")]
    assert order(bundle, backends, speed) == ["cpu", "openvino"]  # not tuned
    tuned_with(bundle, AMD, {"openvino:bf16": 40.0})
    assert order(bundle, backends, speed) == ["openvino:bf16", "openvino", "cpu"]
    assert order(bundle, backends) == ["openvino", "cpu"]
    tuned_with(bundle, INTEL, {"openvino:bf16": 40.0})
    assert order(bundle, backends, speed)[0] == "cpu"


@pytest.mark.parametrize(("psnr", "admits"), [(35, "balanced fast"), (34.9, "fast"), (27, "")])
def test_a_lower_precision_must_be_near_enough(psnr: float, admits: str, bundle: Bundle) -> None:
    backends = [opening("cpu"), in_precisions("fp32", "bf16")]
    tuned_with(bundle, AMD, {"openvino:bf16": psnr})
    speeds: list[Speed] = ["balanced", "fast"]
    taken = [speed for speed in speeds if order(bundle, backends, speed)[0] == "openvino:bf16"]
    assert taken == admits.split()


def test_a_speed_refuses_no_default_precision(bundle: Bundle) -> None:
    tuned_with(bundle, {"cpu": 5.0, "cuda": 0.1}, {"cuda": 31.0})
    assert order(bundle, [opening("cuda"), opening("cpu")], "balanced") == ["cuda", "cpu"]


def test_a_refiner_must_admit_it_too(bundle: Bundle, tmp_path: Path) -> None:
    refiner = Bundle.open(write_toy_bundle(tmp_path / "refiner"))
    backends = [opening("cpu"), in_precisions("fp32", "bf16")]
    tuned_with(bundle, AMD, {"openvino:bf16": 40.0})
    assert order(bundle.refined_by(refiner), backends, "fast") == ["openvino", "cpu"]
    tuned_with(refiner, AMD, {"openvino:bf16": 40.0})
    assert order(bundle.refined_by(refiner), backends, "fast")[0] == "openvino:bf16"


def in_precisions(*precisions: str) -> Backend:
    return replace(opening("openvino"), precisions=precisions)


# --- threads


def test_auto_takes_the_best_number_of_threads_of_each_target(bundle: Bundle) -> None:
    steps = {"openvino": 5.0, "openvino with 2 threads": 4.0, "cpu": 6.0, "cpu with 2 threads": 7.0}
    tuned_with(bundle, steps, num_threads=(None, 2))
    first = resolve(bundle, "auto", CPUS)
    assert (str(first.target), first.num_threads) == ("openvino", 2)
    second = first.after(EngineError("unet: out of memory"))
    assert (str(second.target), second.num_threads) == ("cpu", None)


def test_a_number_of_threads_that_is_given_counts(bundle: Bundle) -> None:
    tuned_with(bundle, {"cpu": 5.0, "cpu with 2 threads": 4.0}, num_threads=(None, 2))
    first = resolve(bundle, "auto", CPUS, num_threads=3)
    assert first.num_threads == 3
    assert first.after(EngineError("unet: out of memory")).num_threads == 3


def test_a_named_target_has_the_library_s_number_of_threads(bundle: Bundle) -> None:
    tuned_with(bundle, {"cpu": 5.0, "cpu with 2 threads": 4.0}, num_threads=(None, 2))
    assert resolve(bundle, "cpu", CPUS).num_threads is None


# --- a variant that is slower


def test_a_slower_variant_says_so_once(bundle: Bundle) -> None:
    tuned_with(bundle, {"openvino": 5.0, "openvino:bf16": 8.0})

    def open_it() -> None:
        warn_if_slower(bundle, Target.parse("openvino:bf16"))

    with pytest.warns(UserWarning) as caught:
        open_it()
    (warning,) = caught
    assert str(warning.message) == (
        "openvino:bf16 takes 1.6 times as long as openvino on this processor (sdrt tune): "
        "use openvino"
    )
    assert warning.filename == __file__  # of the caller of `open_it`


@pytest.mark.parametrize("target", ["openvino:bf16", "openvino", "cpu"])
def test_what_is_not_slower_says_nothing(target: str, bundle: Bundle) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_slower(bundle, Target.parse(target))  # unknown
        tuned_with(bundle, AMD)
        warn_if_slower(bundle, Target.parse(target))
        tuned_with(bundle, INTEL | {"openvino": OUT_OF_MEMORY})
        warn_if_slower(bundle, Target.parse(target))


def test_a_pipeline_follows_the_verdict(bundle: Bundle) -> None:
    skip_unless_it_opens("openvino")
    assert Pipeline.open(bundle.root).target == Target("cpu")
    tuned_with(bundle, AMD)
    assert Pipeline.open(bundle.root).target == Target("openvino")
    assert Pipeline.open(bundle.root, "cpu").target == Target("cpu")
