"""Inputs to try a network on: seeded, the same on every machine, and such as it meets at work."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from sdrt import tensor_names as names
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Component
from sdrt.errors import BundleError
from sdrt_engines import Array, TensorSpec, size_of

BATCH = 2  # guidance doubles the rows of a UNet; pictures are coded one at a time

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
# Early, middle and late in denoising: the sizes of activations differ most between the ends.
_TIMESTEPS = np.array([999.0, 500.0, 1.0])
_CODERS = ("vae decoder", "vae encoder")


def seeded_inputs(
    bundle: Bundle, name: str, *, latents: int | None = None, seed: int = 0
) -> dict[str, Array]:
    """An array for each input of the network `name`: noise, pictures in their range, real tokens.

    `latents` is the height and width of the latents, by default those that the model was trained
    for. BundleError where a size cannot be told from the network and the configurations.
    """
    component = bundle.component(name)
    random = np.random.default_rng(seed)
    shapes = _shapes(bundle, component, latents)
    return {
        spec.name: _values(bundle, component, spec, shapes[spec.name], random)
        for spec in component.signature.inputs
    }


def _shapes(
    bundle: Bundle, component: Component, latents: int | None
) -> dict[str, tuple[int, ...]]:
    sizes: dict[str, int] = {}
    letters = _letters(bundle, component, latents)
    for spec in component.signature.inputs:  # those whose meaning is known name the sizes
        for dim, letter in zip(spec.shape, _axes(component, spec), strict=False):
            if isinstance(dim, str) and dim.isidentifier():
                sizes.setdefault(dim, letters[letter])
    return {
        spec.name: tuple(_known(component, spec, dim, sizes) for dim in spec.shape)
        for spec in component.signature.inputs
    }


def _axes(component: Component, spec: TensorSpec) -> str:
    if component.role == "vae encoder":
        return "BKHW"
    return AXES.get(spec.name, "")


def _letters(bundle: Bundle, component: Component, latents: int | None) -> dict[str, int]:
    """What the letters of `AXES` are; K is the channels of a picture."""
    space = bundle.family.latents
    width, height = (side // space.vae_scale_factor for side in bundle.family.native_size)
    if latents is not None:
        width = height = latents
    return {
        "B": 1 if component.role in _CODERS else BATCH,
        "L": bundle.family.text.num_tokens,
        "C": space.channels,
        "D": bundle.component_config(names.UNET).get("cross_attention_dim", 768),
        "K": 3,
        "h": height,
        "w": width,
        "H": height * space.vae_scale_factor,
        "W": width * space.vae_scale_factor,
    }


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
            values = np.resize(_TIMESTEPS, shape)
        case names.CONTROLNET_COND:
            values = random.uniform(0, 1, shape)
        case names.CONDITIONING_SCALE:
            values = np.ones(shape)
        case name if component.role == "controlnet" and names.is_residual(name):
            values = np.zeros(shape)  # so that what is seen is this net's own
        case names.SAMPLE if component.role == "vae encoder":
            values = random.uniform(-1, 1, shape)
        case _:
            values = random.standard_normal(shape)
    return np.asarray(values, spec.dtype)


def _num_words(bundle: Bundle) -> int:
    """Every token has a row in the text encoder's table; it may have more."""
    return len(json.loads((bundle.tokenizer_folder() / "vocab.json").read_text(encoding="utf-8")))
