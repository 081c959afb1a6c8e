"""Compares an ONNX file with torch: the same seeded inputs to both, at sizes never traced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sdrt.arrays import psnr_of
from sdrt.bundle.manifest import Parity
from sdrt.errors import SdrtError
from sdrt_engines import Array, engine_from_onnx
from sdrt_export.errors import ExportError
from sdrt_export.networks.network import Network, TraceSize

# Odd sizes too, for which the UNet's upsampling must match the skip connections.
COMPARED = (
    TraceSize(batch=1, height=8, width=8, sequence=77),
    TraceSize(batch=3, height=9, width=13, sequence=154),
)
# Float32 graphs differ from torch in little more than the order of sums: 110 dB and better.
MIN_PSNR = 90.0  # dB
MIN_PSNR_ROUNDED = 35.0  # dB, if weights were rounded to float16


@dataclass(frozen=True)
class Case:
    """Inputs of one size, and torch's outputs for them."""

    feeds: dict[str, Array]
    outputs: dict[str, Array]


def cases_from_network(network: Network) -> list[Case]:
    """The unchanged model's outputs for seeded random inputs at each size of `COMPARED`.

    ExportError if they contain NaN or infinity.
    """
    random = torch.Generator().manual_seed(0)
    return [_case(network, size, random) for size in COMPARED]


@torch.no_grad()
def _case(network: Network, size: TraceSize, random: torch.Generator) -> Case:
    try:
        inputs = network.inputs_at(size, random)
        outputs = network(*inputs)
    except Exception as error:  # diffusers may raise anything
        message = " ".join(str(error).split())
        raise ExportError(
            f"{network.name}: torch itself cannot run it ({message}): "
            "the checkpoint's configuration is broken"
        ) from error
    if isinstance(outputs, torch.Tensor):
        outputs = (outputs,)
    specs = network.signature
    for spec, output in zip(specs.outputs, outputs, strict=True):
        if not output.isfinite().all():
            raise ExportError(
                f"{network.name}: torch itself gives NaN or infinity in '{spec.name}': "
                "the checkpoint's weights are broken"
            )
    return Case(
        {spec.name: tensor.numpy() for spec, tensor in zip(specs.inputs, inputs, strict=True)},
        {spec.name: tensor.numpy() for spec, tensor in zip(specs.outputs, outputs, strict=True)},
    )


def checked_parity(
    name: str, model: Path, cases: Sequence[Case], *, rounded: bool = False
) -> Parity:
    """The parity of the network `name`.

    ExportError if it is worse than `MIN_PSNR`, or than `MIN_PSNR_ROUNDED` if weights were rounded.
    """
    needed = MIN_PSNR_ROUNDED if rounded else MIN_PSNR
    try:
        parity = measure_parity(model, cases)
    except SdrtError as error:
        raise ExportError(f"{name}: the exported network does not run: {error}") from error
    if not parity.psnr >= needed:
        raise ExportError(
            f"{name}: the exported network differs from torch: PSNR {parity.psnr:.1f} dB, "
            f"expected {needed:.0f} or more, greatest error {parity.max_abs:.2g}"
        )
    return parity


def measure_parity(model: Path, cases: Sequence[Case]) -> Parity:
    """The worst of all cases and outputs: largest absolute error, smallest PSNR."""
    parities: list[Parity] = []
    with engine_from_onnx(model) as engine:
        for case in cases:
            outputs = engine.run(case.feeds)
            parities += [parity_of(case.outputs[name], outputs[name]) for name in case.outputs]
    return Parity(max(p.max_abs for p in parities), min(p.psnr for p in parities))


def parity_of(expected: Array, got: Array) -> Parity:
    """The parity of one tensor. The PSNR, relative to `expected`'s range, is infinite if equal."""
    if got.shape != expected.shape:
        raise ExportError(
            f"got the shape {got.shape} from the ONNX file, expected torch's {expected.shape}"
        )
    return Parity(float(np.abs(got.astype(np.float64) - expected).max()), psnr_of(expected, got))
