"""The comparison with torch: its figures and its refusals."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints import tiny_pipeline
from sdrt_export.errors import ExportError
from sdrt_export.networks.text_encoder import TextEncoder
from sdrt_export.tracing.onnx_from_network import write_onnx
from sdrt_export.tracing.parity import cases_from_network, checked_parity, parity_of

pytestmark = pytest.mark.export


def test_psnr_is_relative_to_the_range() -> None:
    expected = np.array([-5, 0, 5], np.float32)
    got = np.array([-5, 0, 5.1], np.float32)
    parity = parity_of(expected, got)
    assert parity.max_abs == pytest.approx(0.1, rel=1e-5)
    assert parity.psnr == pytest.approx(10 * math.log10(10**2 / (0.1**2 / 3)), rel=1e-5)


def test_equal_outputs_have_an_infinite_psnr() -> None:
    ones = np.ones((2, 3), np.float32)
    assert parity_of(ones, ones) == parity_of(ones, ones.copy())
    assert parity_of(ones, ones).psnr == math.inf


def test_a_constant_output_can_be_compared() -> None:
    ones = np.ones(4, np.float32)
    assert parity_of(ones, ones + np.float32(0.5)).psnr == pytest.approx(20 * math.log10(2))


def test_another_shape_is_an_error() -> None:
    with pytest.raises(
        ExportError, match=r"shape \(3,\) from the ONNX file, expected torch's \(2, 3\)"
    ):
        parity_of(np.ones((2, 3)), np.ones(3))


def test_a_bad_network_aborts_with_its_name(tmp_path: Path) -> None:
    network = TextEncoder(tiny_pipeline("classic").text_encoder)
    cases = cases_from_network(network)
    with torch.no_grad():
        for weight in network.parameters():
            weight *= 1.01
    model = write_onnx(network, tmp_path)[0]
    with pytest.raises(
        ExportError,
        match=r"text_encoder: the exported network differs from torch: "
        r"PSNR \d\d\.\d dB, expected 90 or more",
    ):
        checked_parity("text_encoder", model, cases)


def test_a_network_that_does_not_run_aborts_with_its_name(tmp_path: Path) -> None:
    cases = cases_from_network(TextEncoder(tiny_pipeline("classic").text_encoder))
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ExportError, match="text_encoder: the exported network does not run: "):
        checked_parity("text_encoder", tmp_path / "model.onnx", cases)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_torch_itself_cannot_run_are_reported(value: float) -> None:
    network = TextEncoder(tiny_pipeline("classic").text_encoder)
    with torch.no_grad():
        next(reversed(list(network.parameters())))[0] = value  # of the final layer norm
    with pytest.raises(
        ExportError, match="text_encoder: torch itself gives NaN or infinity in 'last_hidden_state'"
    ):
        cases_from_network(network)
