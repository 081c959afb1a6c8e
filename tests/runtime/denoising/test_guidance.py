"""Guidance: the formulas of the papers, on numbers that can be checked by hand."""

import numpy as np
import pytest

from sdrt.denoising.guidance import guidance_scale_embedding, guide
from sdrt_engines import Array


def _predictions() -> Array:
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, 2, 4, 8, 8), dtype=np.float32)


@pytest.mark.parametrize("scale", [0.0, 1.0, 7.5])
def test_guidance_goes_from_the_unconditional_towards_the_conditional(scale: float) -> None:
    unconditional, conditional = _predictions()
    guided = guide(unconditional, conditional, scale)
    np.testing.assert_allclose(
        guided, (1 - scale) * unconditional + scale * conditional, rtol=0, atol=1e-5
    )
    assert guided.dtype == np.float32


def test_a_full_rescale_gives_the_spread_of_the_conditional_prediction() -> None:
    unconditional, conditional = _predictions()
    guided = guide(unconditional, conditional, 7.5, rescale=1.0)
    axes = (1, 2, 3)
    np.testing.assert_allclose(guided.std(axes), conditional.std(axes), rtol=1e-5)


def test_half_a_rescale_lies_between() -> None:
    unconditional, conditional = _predictions()
    none, half, full = (guide(unconditional, conditional, 7.5, rescale=r) for r in (0, 0.5, 1))
    np.testing.assert_allclose(half, (none + full) / 2, rtol=1e-5, atol=1e-6)


def test_the_embedding_of_guidance_one_is_that_of_zero() -> None:
    embedding = guidance_scale_embedding(1.0, 9)
    np.testing.assert_array_equal(embedding, [[0, 0, 0, 0, 1, 1, 1, 1, 0]])
