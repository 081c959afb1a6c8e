"""Control images made from ordinary ones."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from sdrt.errors import RequestError
from sdrt.images.annotators import ANNOTATORS, annotate, canny


def square() -> Image.Image:
    image = Image.new("RGB", (64, 48))
    image.paste("white", (16, 16, 48, 32))
    return image


@pytest.mark.needs("cv2")
def test_canny_draws_edges_white_on_black() -> None:
    edges = annotate("canny", square())
    assert (edges.size, edges.mode) == ((64, 48), "RGB")
    pixels = np.asarray(edges)
    assert set(np.unique(pixels)) == {0, 255}
    rows, columns = np.nonzero(pixels[..., 0])
    outline = (abs(columns - 15.5) < 2) | (abs(columns - 47.5) < 2)
    outline |= (abs(rows - 15.5) < 2) | (abs(rows - 31.5) < 2)
    assert outline.all()
    assert len(rows) > 60


@pytest.mark.needs("cv2")
def test_thresholds_say_what_is_an_edge() -> None:
    faint = Image.fromarray(np.asarray(square()) // 8)
    assert not np.asarray(canny(faint)).any()
    assert np.asarray(canny(faint, low=10, high=20)).any()


@pytest.mark.needs("cv2")
@pytest.mark.parametrize("name", ANNOTATORS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2)])
def test_tiny_images(name: str, size: tuple[int, int]) -> None:
    assert annotate(name, Image.new("RGB", size)).size == size


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cany", "annotator: got 'cany', did you mean 'canny'?"),
        ("depth", "annotator: got 'depth', known: canny"),
    ],
)
def test_an_unknown_annotator_is_reported(name: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        annotate(name, square())
    assert str(caught.value) == message


def test_a_missing_library_is_reported_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)  # as where it is not installed
    with pytest.raises(RequestError) as caught:
        annotate("canny", square())
    assert str(caught.value) == (
        "annotator canny needs OpenCV, which is not installed: pip install 'sdrt[annotate]', or "
        "give an edge image of your own"
    )
