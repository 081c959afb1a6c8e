"""Seeded inputs to try a network on: the same for the same component on every machine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sdrt import tensor_names as names
from sdrt_engines import Array, Signature, TensorSpec
from sdrt_engines.shape_profiles import Range, profile_of_signature

# Early, middle and late in denoising: the sizes of activations differ most between the ends.
_TIMESTEPS = np.array([999.0, 500.0, 1.0])


def fixed_inputs(
    signature: Signature, sizes: Mapping[str, int], vocabulary: int
) -> dict[str, Array]:
    """An array for each input: normal noise, pictures in their range, tokens below `vocabulary`.

    `sizes` says what the signature's dimensions are. Every value is one that a run may bring.
    """
    random = np.random.default_rng(0)
    ranges = {name: Range.of(size) for name, size in sizes.items()}
    shapes = profile_of_signature(signature, ranges).shapes("opt")
    return {
        spec.name: _values(spec, shapes[spec.name], vocabulary, random).astype(spec.dtype)
        for spec in signature.inputs
    }


def _values(
    spec: TensorSpec, shape: tuple[int, ...], vocabulary: int, random: np.random.Generator
) -> Array:
    if spec.name == names.TIMESTEP:
        return np.resize(_TIMESTEPS, shape)
    if spec.dtype.kind in "iu":
        return random.integers(vocabulary, size=shape)
    if spec.name == names.CONTROLNET_COND:
        return random.random(shape)
    if shape[1:2] == (3,):  # a picture
        return 2 * random.random(shape) - 1
    return random.standard_normal(shape)
