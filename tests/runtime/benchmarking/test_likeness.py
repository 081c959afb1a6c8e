"""PSNR and SSIM of images."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt.benchmarking.likeness import EQUAL, Pixels, psnr_of_images, ssim_of_images

RANDOM = np.random.default_rng(0)
IMAGE: Pixels = RANDOM.integers(0, 200, (32, 24, 3), dtype=np.uint8)


def test_equal_images() -> None:
    assert psnr_of_images(IMAGE, IMAGE) == EQUAL
    assert ssim_of_images(IMAGE, IMAGE) == pytest.approx(1)


def test_psnr_is_against_the_greatest_value() -> None:
    other = IMAGE + np.uint8(10)
    assert psnr_of_images(IMAGE, other) == pytest.approx(20 * np.log10(25.5))


def test_a_constant_image_differs_in_luminance_only() -> None:
    one, other = np.full((2, 20, 20, 3), np.array([100, 120])[:, None, None, None], np.uint8)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert ssim_of_images(one, other) == pytest.approx(expected)


def test_structure_counts_more_than_luminance() -> None:
    brighter, noisy = IMAGE + np.uint8(10), IMAGE.copy()
    noisy[::2] += np.uint8(14)
    assert ssim_of_images(IMAGE, brighter) > ssim_of_images(IMAGE, noisy)
    assert ssim_of_images(IMAGE, RANDOM.permutation(IMAGE)) < 0.2


def test_the_window_is_wang_s() -> None:
    """One bright pixel: the weight of each window around it is a Gaussian of 11 pixels."""
    black = np.zeros((21, 21, 3), np.uint8)
    dot = black.copy()
    dot[10, 10] = 255
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets**2) / 4.5)
    weights = np.outer(weights, weights) / weights.sum() ** 2  # of the 11 x 11 windows
    mean, square = 255 * weights, 255**2 * weights
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (c1 / (mean**2 + c1) * c2 / (square - mean**2 + c2)).mean()
    assert ssim_of_images(black, dot) == pytest.approx(expected)
