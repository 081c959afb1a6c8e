"""Control images made from ordinary ones.

Other kinds (depth, pose, segmentation) come from other programs and are given to `Control` as
images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sdrt.errors import RequestError, did_you_mean, quoted

if TYPE_CHECKING:
    from PIL.Image import Image


def annotate(annotator: str, image: Image) -> Image:
    """The control image that `annotator`, one of `ANNOTATORS`, makes from an image.

    Raises `RequestError` for an unknown name, or if its library is missing.
    """
    require_annotator(annotator)
    return ANNOTATORS[annotator](image)


def require_annotator(annotator: str) -> None:
    """Raises `RequestError` unless there is an annotator of that name."""
    if not isinstance(annotator, str) or annotator not in ANNOTATORS:
        near = did_you_mean(annotator if isinstance(annotator, str) else "", ANNOTATORS)
        raise RequestError(f"annotator: got {quoted(annotator)}, {near}")


def canny(image: Image, low: float = 100, high: float = 200) -> Image:
    """Edges, white on black, one pixel wide (Canny 1986, doi:10.1109/TPAMI.1986.4767851).

    An edge starts where the gradient exceeds `high` and continues while it exceeds `low`, both for
    channels in 0..255.
    """
    from PIL.Image import fromarray

    edges = _opencv().Canny(np.asarray(image.convert("RGB")), low, high)  # (H, W) of 0 and 255
    return fromarray(edges).convert("RGB")


ANNOTATORS: Mapping[str, Callable[[Image], Image]] = {"canny": canny}


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise RequestError(
            "annotator canny needs OpenCV, which is not installed: pip install 'sdrt[annotate]', "
            "or give an edge image of your own"
        ) from error
    return cv2
