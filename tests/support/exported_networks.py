"""Runs exported networks, and sets how close to torch they must be."""

from __future__ import annotations

from pathlib import Path

import torch

from sdrt.bundle.folder import Bundle
from sdrt_engines import Array, engine_from_onnx, signature_from_onnx
from sdrt_export.networks.network import Network
from sdrt_export.tracing.parity import parity_of

MIN_PSNR = 110.0  # dB: float32 sums in another order


def run_in_bundle(bundle: Path, network: Network, *inputs: torch.Tensor) -> dict[str, Array]:
    """The outputs of the bundle's own file of the network."""
    component = Bundle.open(bundle).component(network.name)
    return run_exported(network, bundle / component.model, *inputs)


def run_exported(network: Network, model: Path, *inputs: torch.Tensor) -> dict[str, Array]:
    """The outputs of the ONNX file; asserts that it has the network's signature."""
    assert signature_from_onnx(model) == network.signature
    names = [spec.name for spec in network.signature.inputs]
    with engine_from_onnx(model, num_threads=1) as engine:
        return engine.run(dict(zip(names, (i.numpy() for i in inputs), strict=True)))


def assert_near(expected: torch.Tensor, got: Array) -> None:
    parity = parity_of(expected.numpy(), got)
    assert parity.psnr >= MIN_PSNR, parity
