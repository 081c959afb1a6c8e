"""The asks of an image, found without running networks; and the timing of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sdrt.bundle.folder import Bundle
from sdrt.errors import NonFiniteError, RequestError
from sdrt.targets.tuned import Shape
from sdrt.tuning.candidates import Candidate
from sdrt.tuning.measuring import MAX_RUNS, measures_of, seconds_of
from sdrt.tuning.workload import workload_of
from sdrt_engines import EngineError, Target
from support.toy_bundle import write_toy_bundle

SHAPE = Shape(32, 16)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_toy_bundle(tmp_path / "bundle"))


def test_the_asks_are_those_of_a_request(bundle: Bundle) -> None:
    workload = workload_of(bundle, Shape(32, 16, batch=3))
    (text,) = workload.text
    assert text.chain[0].changing["input_ids"].shape == (2, 77)  # a prompt and its negative one
    (link,) = workload.step.chain
    assert link.component == "unet"
    assert link.changing["sample"].shape == (6, 4, 2, 4)  # guided, so two rows an image
    assert link.constant.feeds["encoder_hidden_states"].shape[:2] == (6, 77)
    assert [ask.chain[0].changing["latent_sample"].shape for ask in workload.decode] == [
        (1, 4, 2, 4)
    ] * 3
    assert workload.num_steps == bundle.defaults["num_inference_steps"]


def test_a_shape_that_the_model_cannot_make_is_refused(bundle: Bundle) -> None:
    with pytest.raises(RequestError, match="width: got 33, expected a multiple of 8"):
        workload_of(bundle, Shape(33, 16))


def test_an_inpainting_model_is_given_an_image(tmp_path: Path) -> None:
    bundle = Bundle.open(write_toy_bundle(tmp_path / "inpainting", unet_channels=9))
    (link,) = workload_of(bundle, SHAPE).step.chain
    assert link.changing["sample"].shape == (2, 9, 2, 4)


def test_real_engines_are_timed_and_compared(bundle: Bundle) -> None:
    measures = measures_of(bundle, {SHAPE: workload_of(bundle, SHAPE)})
    for part in ("text", "step", "decode"):
        assert measures.seconds(Candidate(Target("cpu"), 1), SHAPE, part) > 0
    assert measures.psnr(Target("cpu")) is None  # equal


def test_nan_and_missing_files_are_errors(tmp_path: Path) -> None:
    bundle = Bundle.open(write_toy_bundle(tmp_path / "broken", nan_from="unet"))
    measures = measures_of(bundle, {SHAPE: workload_of(bundle, SHAPE)})
    with pytest.raises(NonFiniteError, match=r"unet: .* NaN or infinite"):
        measures.seconds(Candidate(Target("cpu")), SHAPE, "step")
    with pytest.raises(NonFiniteError, match="unet: 2048 output values are NaN or infinite"):
        measures.psnr(Target("cpu"))
    (bundle.root / "text_encoder/model.onnx").unlink()
    with pytest.raises(EngineError, match="file of the bundle is missing"):
        measures.psnr(Target("cpu"))


def clock_of(*durations: float) -> Iterator[float]:
    now = 0.0
    for duration in durations:
        yield now
        now += duration
        yield now


@pytest.mark.parametrize(
    ("durations", "seconds"),
    [([5.0], 5.0), ([0.09, 0.05, 0.07], 0.07), ([0.001] * MAX_RUNS, 0.001)],
)
def test_short_runs_are_repeated(durations: list[float], seconds: float) -> None:
    runs: list[int] = []
    clock = clock_of(*durations)
    taken = seconds_of(lambda: runs.append(1), lambda: next(clock))
    assert taken == pytest.approx(seconds)
    assert len(runs) == 1 + len(durations)  # the first one warms up
