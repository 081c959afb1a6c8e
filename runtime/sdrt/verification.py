"""Each network of a bundle on a target beside the CPU in float32, on the same seeded inputs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdrt import tensor_names as names
from sdrt.bundle import Bundle
from sdrt.errors import BundleError, SdrtError
from sdrt.manifest import Component
from sdrt.psnr import psnr_of
from sdrt_engines import Array, Target, TensorSpec, openvino_precision, size_of

# PSNR in dB that each output must reach, by what the target computes in. Of float32 the sums differ
# in their order; half precisions keep 11 (float16) or 8 bits (bfloat16) of each number.
MIN_PSNR = {"fp32": 90.0, "fp16": 30.0, "bf16": 30.0}

BATCH = 2  # guidance doubles the rows of a UNet; pictures are coded one at a time
NUM_TOKENS = 77  # CLIP's, where the text encoder leaves it open

# What the axes of each input mean, in the letters of `tensor_names`.
AXES: Mapping[str, str] = {
    names.INPUT_IDS: "BL",
    names.SAMPLE: "BChw",
    names.TIMESTEP: "B",
    names.ENCODER_HIDDEN_STATES: "BLD",
    names.TIMESTEP_COND: "BK",
    names.LATENT_SAMPLE: "BChw",
    names.CONTROLNET_COND: "BKHW",
}


@dataclass(frozen=True)
class Verdict:
    """One network on a target: the worst of its outputs, or why it did not run."""

    component: str
    precision: str  # what the target computes in
    min_psnr: float  # dB
    max_abs: float = math.nan
    psnr: float = -math.inf  # dB; relative to the range of what the CPU gives
    num_non_finite: int = 0
    error: str | None = None

    @property
    def passed(self) -> bool:
        return self.error is None and not self.num_non_finite and self.psnr >= self.min_psnr


def verify_component(bundle: Bundle, name: str, target: Target) -> Verdict:
    """How near the network `name` is on `target` to the CPU. What fails on the way is in the
    verdict.
    """
    precision = _precision(bundle, name, target)
    min_psnr = MIN_PSNR[precision]
    try:
        feeds = feeds_for(bundle, name)
        expected = _outputs(bundle, name, Target("cpu"), feeds)
        got = _outputs(bundle, name, target, feeds)
    except SdrtError as error:
        return Verdict(name, precision, min_psnr, error=str(error))
    num_non_finite = sum(int(np.count_nonzero(~np.isfinite(array))) for array in got.values())
    if num_non_finite:
        return Verdict(name, precision, min_psnr, num_non_finite=num_non_finite)
    return Verdict(
        name,
        precision,
        min_psnr,
        max_abs=max(float(abs(got[key] - expected[key]).max()) for key in expected),
        psnr=min(psnr_of(expected[key], got[key]) for key in expected),
    )


def feeds_for(bundle: Bundle, name: str, seed: int = 0) -> dict[str, Array]:
    """Seeded inputs for a network, such as it meets at work and of the bundle's own size.

    BundleError where a size cannot be told from the network and the configurations.
    """
    component = bundle.component(name)
    random = np.random.default_rng(seed)
    shapes = _shapes(bundle, component)
    return {
        spec.name: _values(bundle, component, spec, shapes[spec.name], random)
        for spec in component.signature.inputs
    }


def _outputs(bundle: Bundle, name: str, target: Target, feeds: dict[str, Array]) -> dict[str, Any]:
    """As float64, so that differences are exact. The engine is closed again: two may not fit."""
    with bundle.open_engine(name, target) as engine:
        return {key: array.astype(np.float64) for key, array in engine.run(feeds).items()}


def _precision(bundle: Bundle, name: str, target: Target) -> str:
    if target.backend == "openvino":
        return openvino_precision(target)
    component = bundle.component(name)
    built_for_it = bundle.onnx_for(component, target)[0] != component.model
    return "fp16" if built_for_it or target.backend.startswith("tensorrt") else "fp32"


def _shapes(bundle: Bundle, component: Component) -> dict[str, tuple[int, ...]]:
    sizes: dict[str, int] = {}
    letters = _letters(bundle, component)
    for spec in component.signature.inputs:  # those whose meaning is known name the sizes
        for dim, letter in zip(spec.shape, _axes(component, spec), strict=False):
            if isinstance(dim, str) and dim.isidentifier():
                sizes.setdefault(dim, letters[letter])
    return {
        spec.name: tuple(_known(component, spec, dim, sizes) for dim in spec.shape)
        for spec in component.signature.inputs
    }


def _axes(component: Component, spec: TensorSpec) -> str:
    if component.name == names.VAE_ENCODER:
        return "BKHW"
    return AXES.get(spec.name, "")


def _letters(bundle: Bundle, component: Component) -> dict[str, int]:
    """What the letters of `AXES` are; K is the channels of a picture."""
    coder = component.name in (names.VAE_DECODER, names.VAE_ENCODER)
    latents = bundle.sample_size
    unet = bundle.component_config(names.UNET)
    return {
        "B": 1 if coder else BATCH,
        "L": _num_tokens(bundle),
        "C": bundle.latent_channels,
        "D": unet.get("cross_attention_dim", 768),
        "K": 3,
        **dict.fromkeys("hw", latents),
        **dict.fromkeys("HW", latents * bundle.vae_scale_factor),
    }


def _num_tokens(bundle: Bundle) -> int:
    dim = bundle.component(names.TEXT_ENCODER).signature.input(names.INPUT_IDS).shape[-1]
    return dim if isinstance(dim, int) else NUM_TOKENS


def _known(component: Component, spec: TensorSpec, dim: int | str, sizes: Mapping[str, int]) -> int:
    size = size_of(dim, sizes)
    if size is None:
        raise BundleError(
            f"{component.name}: input '{spec.name}' is {spec}, and how large '{dim}' is nobody "
            "says: only networks of Stable Diffusion can be verified"
        )
    return size


def _values(
    bundle: Bundle,
    component: Component,
    spec: TensorSpec,
    shape: tuple[int, ...],
    random: np.random.Generator,
) -> Array:
    values: Array
    match spec.name:
        case names.INPUT_IDS:
            values = random.integers(_num_words(bundle), size=shape)
        case names.TIMESTEP:
            values = random.integers(1000, size=shape)
        case names.CONTROLNET_COND:
            values = random.uniform(0, 1, shape)
        case names.SAMPLE if component.name == names.VAE_ENCODER:
            values = random.uniform(-1, 1, shape)
        case _:
            values = random.standard_normal(shape)
    return np.asarray(values, spec.dtype)


def _num_words(bundle: Bundle) -> int:
    """Every token has a row in the text encoder's table; it may have more."""
    return len(json.loads((bundle.tokenizer_folder / "vocab.json").read_text(encoding="utf-8")))
