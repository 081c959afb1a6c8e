from __future__ import annotations

import math
from pathlib import Path

import pytest

from sdrt.bundle.folder import Bundle
from sdrt.verification.verdict import Verdict, verify_component
from sdrt_engines import Target
from support.backends import skip_unless_it_opens
from support.built_records import ingredients_of, write_half_graph, write_plan
from support.toy_bundle import write_toy_bundle


@pytest.fixture
def toy(tmp_path: Path) -> Bundle:
    return Bundle.open(write_toy_bundle(tmp_path / "toy"))


def test_the_cpu_equals_itself(toy: Bundle) -> None:
    verdict = verify_component(toy, "unet", Target("cpu"))
    assert verdict == Verdict("unet", "fp32", 90.0, max_abs=0.0, psnr=math.inf)
    assert verdict.passed


def test_openvino_is_measured_against_the_cpu() -> None:
    skip_unless_it_opens("openvino")
    verdict = verify_component(Bundle.open("demo"), "text_encoder", Target("openvino"))
    assert verdict.passed
    assert 0 < verdict.max_abs < 1e-4
    assert 90 < verdict.psnr < math.inf


def test_nan_is_counted_and_fails(tmp_path: Path) -> None:
    bundle = Bundle.open(write_toy_bundle(tmp_path / "nan", nan_from="vae_decoder"))
    verdict = verify_component(bundle, "vae_decoder", Target("cpu"))
    assert verdict.num_non_finite == 3 * 128 * 128
    assert not verdict.passed


def test_what_does_not_run_is_in_the_verdict(toy: Bundle) -> None:
    (toy.root / "unet/model.onnx_data").write_bytes(b"x")
    verdict = verify_component(toy, "unet", Target("cpu"))
    assert verdict.error is not None
    assert "unet/model.onnx_data: got 1 bytes" in verdict.error
    assert not verdict.passed


@pytest.mark.parametrize(
    ("precision", "min_psnr"), [("fp16", 30.0), ("bf16", 30.0), ("fp32", 90.0)]
)
def test_what_is_needed_follows_from_what_was_built(
    toy: Bundle, precision: str, min_psnr: float
) -> None:
    """Also if it does not open here. "fp32" is a network that half precision was not enough for."""
    unet = toy.component("unet")
    write_half_graph(toy.root, unet, precision)
    write_plan(toy.root, ingredients_of(toy.root, unet, precision))
    for target in ("cuda", "tensorrt-rtx"):
        verdict = verify_component(toy, "unet", Target(target))
        assert (verdict.precision, verdict.min_psnr) == (precision, min_psnr)


@pytest.mark.parametrize(
    ("precision", "min_psnr", "psnr", "passed"),
    [("bf16", 30.0, 30.0, True), ("bf16", 30.0, 29.9, False), ("fp32", 90.0, math.nan, False)],
)
def test_the_threshold(precision: str, min_psnr: float, psnr: float, passed: bool) -> None:
    assert Verdict("unet", precision, min_psnr, 0.1, psnr).passed == passed
