"""Seeded inputs for a network: the same on every machine, in the ranges of real use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from sdrt import tensor_names as names
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Component
from sdrt.denoising.vae import unscaled_latents
from sdrt.errors import BundleError
from sdrt.families.family import LatentSpace
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt_engines import Array, TensorSpec, size_of

BATCH = 2  # guidance doubles a UNet's rows; the VAE encodes and decodes one image at a time

_CODERS = ("vae decoder", "vae encoder")
# Early, middle and late in denoising: activations differ most in size between the two ends.
_TIMESTEPS = np.array([999.0, 500.0, 1.0])
_GUIDANCE_WIDTH = 256  # of LCM's guidance embedding, if the UNet's configuration does not say
_CONTEXT_WIDTH = 768  # of Stable Diffusion 1

SizeName: TypeAlias = Literal[
    "rows",
    "tokens",
    "context_width",
    "guidance_width",
    "latent_channels",
    "latent_height",
    "latent_width",
    "image_channels",
    "image_height",
    "image_width",
]

Sample: TypeAlias = Callable[[np.random.Generator, tuple[int, ...], Bundle], Array]


@dataclass(frozen=True)
class Input:
    """The meaning of a network's input.

    `shape` names its sizes, axis by axis; a shorter one leaves the last axes to other inputs of the
    network. `sample(random, shape, bundle)` generates its values.
    """

    shape: tuple[SizeName, ...]
    sample: Sample


def _noise(random: np.random.Generator, shape: tuple[int, ...], bundle: Bundle) -> Array:
    return random.standard_normal(shape)


def _encoded(own: LatentSpace | None = None) -> Sample:
    """Latents in the range of the VAE, which is several times that of the denoiser unless the VAE
    has a latent space of its own."""
    return lambda random, shape, bundle: unscaled_latents(
        random.standard_normal(shape), own or bundle.family.latents
    )


def _uniform(low: float, high: float) -> Sample:
    return lambda random, shape, bundle: random.uniform(low, high, shape)


def _tokens(random: np.random.Generator, shape: tuple[int, ...], bundle: Bundle) -> Array:
    """Tokens of the vocabulary; the text encoder's table has a row for each, or more rows."""
    folder = bundle.family.text.encoders[0].tokenizer
    tokenizer = ClipTokenizer.open(bundle.tokenizer_folder(folder))
    ids = random.integers(tokenizer.backend.get_vocab_size(with_added_tokens=False), size=shape)
    ids[..., 0] = tokenizer.encode("").ids[0]  # what begins a text has the largest activations
    return ids


_LATENTS: tuple[SizeName, ...] = ("rows", "latent_channels", "latent_height", "latent_width")
_IMAGES: tuple[SizeName, ...] = ("rows", "image_channels", "image_height", "image_width")

INPUTS: Mapping[str, Input] = {
    names.INPUT_IDS: Input(("rows", "tokens"), _tokens),
    names.SAMPLE: Input(_LATENTS, _noise),
    names.TIMESTEP: Input(("rows",), lambda random, shape, bundle: np.resize(_TIMESTEPS, shape)),
    names.ENCODER_HIDDEN_STATES: Input(("rows", "tokens", "context_width"), _noise),
    names.TIMESTEP_COND: Input(("rows", "guidance_width"), _noise),
    names.TEXT_EMBEDS: Input(("rows",), _noise),
    names.TIME_IDS: Input(("rows",), _uniform(0, 1024)),  # sizes in pixels
    names.LATENT_SAMPLE: Input(_LATENTS, _encoded()),
    names.CONTROLNET_COND: Input(_IMAGES, _uniform(0, 1)),
    names.CONDITIONING_SCALE: Input(("rows",), lambda random, shape, bundle: np.ones(shape)),
}
_ENCODED_IMAGE = Input(_IMAGES, _uniform(-1, 1))  # the VAE encoder calls it "sample", too
_NO_RESIDUAL = Input((), lambda random, shape, bundle: np.zeros(shape))
_OTHER = Input((), _noise)


def input_of(component: Component, name: str) -> Input:
    """The meaning of the input `name` of a network."""
    if component.role == "vae encoder":
        return _ENCODED_IMAGE
    if component.role == "vae decoder":
        return Input(_LATENTS, _encoded(component.latents))
    if component.role == "controlnet" and names.is_residual(name):
        return _NO_RESIDUAL  # so the outputs are this ControlNet's own
    return INPUTS.get(name, _OTHER)


def seeded_inputs(
    bundle: Bundle, name: str, *, latents: int | None = None, seed: int = 0
) -> dict[str, Array]:
    """An array for each input of the network `name`: noise, images in their range, real tokens.

    `latents` is the height and width of the latents, by default those that the model was trained
    on. BundleError if neither the network nor the configurations give the size of an input.
    """
    component = bundle.component(name)
    random = np.random.default_rng(seed)
    shapes = _shapes(bundle, component, latents)
    arrays = {}
    for spec in component.signature.inputs:
        values = input_of(component, spec.name).sample(random, shapes[spec.name], bundle)
        arrays[spec.name] = np.asarray(values, spec.dtype)
    return arrays


def _shapes(
    bundle: Bundle, component: Component, latents: int | None
) -> dict[str, tuple[int, ...]]:
    known = _known_sizes(bundle, component, latents)
    sizes: dict[str, int] = {}  # by the names that the network uses
    for spec in component.signature.inputs:
        shape = input_of(component, spec.name).shape
        for dim, name in zip(spec.shape, shape, strict=False):
            if isinstance(dim, str) and dim.isidentifier():
                sizes.setdefault(dim, known[name])
    return {
        spec.name: tuple(_size(component, spec, dim, sizes) for dim in spec.shape)
        for spec in component.signature.inputs
    }


def _known_sizes(
    bundle: Bundle, component: Component, latents: int | None
) -> Mapping[SizeName, int]:
    space = bundle.family.latents
    width, height = (side // space.vae_scale_factor for side in bundle.family.native_size)
    if latents is not None:
        width = height = latents
    config = bundle.component_config(bundle.name_of("denoiser"))
    return {
        "rows": 1 if component.role in _CODERS else BATCH,
        "tokens": bundle.family.text.num_tokens,
        "context_width": config.get("cross_attention_dim", _CONTEXT_WIDTH),
        "guidance_width": config.get("time_cond_proj_dim") or _GUIDANCE_WIDTH,
        "latent_channels": space.channels,
        "latent_height": height,
        "latent_width": width,
        "image_channels": 3,
        "image_height": height * space.vae_scale_factor,
        "image_width": width * space.vae_scale_factor,
    }


def _size(component: Component, spec: TensorSpec, dim: int | str, sizes: Mapping[str, int]) -> int:
    size = size_of(dim, sizes)
    if size is None:
        raise BundleError(
            f"{component.name}: input '{spec.name}' is {spec}, and the size of '{dim}' is unknown: "
            "only networks of Stable Diffusion can be verified"
        )
    return size
