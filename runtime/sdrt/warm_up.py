"""Short requests that open and run the networks of later ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sdrt.bundle.folder import Bundle
from sdrt.errors import RequestError
from sdrt.kinds import Between, Pair
from sdrt.parameters import MAX_IMAGES, MAX_SIDE
from sdrt.request import Request, request_from

_PROMPT = "warm-up"
_STEPS = 2  # as backends prepare a shape in its first runs: memory, kernels, captured graphs
_SIZE = Pair(("height", "width"), Between(8, MAX_SIDE, whole=True))
_BATCH = Between(1, MAX_IMAGES, whole=True)
_IN_SIZES = ("height", "width", "num_images_per_prompt")


def requests_of_sizes(
    sizes: Sequence[tuple[int, int]] | None,
    batch: int,
    options: Mapping[str, Any],
    bundle: Bundle,
) -> Iterator[Request]:
    """A short request for images of each size, (height, width), with these options of a request.
    None is the size that a request without one has. RequestError for wrong values."""
    for name in _IN_SIZES:
        if name in options:
            raise RequestError(f"{name}: warm_up takes sizes and batch instead: give them")
    number = _BATCH.checked("batch", batch)
    for size in _checked(sizes):
        height, width = size or (None, None)
        given = {"height": height, "width": width, "num_images_per_prompt": number}
        yield shortened(request_from(_PROMPT, {**options, **given}), bundle)


def shortened(request: Request, bundle: Bundle) -> Request:
    """A request that runs the same networks on the same shapes, in as few steps as possible."""
    refined = bundle.refiner is not None and request.refiner_start != 1
    return replace(
        request,
        num_inference_steps=_STEPS,
        timesteps=None,
        sigmas=None,
        strength=None if request.image is None else 1.0,
        refiner_start=0.5 if refined else request.refiner_start,
    )


def _checked(sizes: Sequence[tuple[int, int]] | None) -> list[Any]:
    if sizes is None:
        return [None]
    if not isinstance(sizes, Sequence) or not sizes:
        raise RequestError(
            f"sizes: got {sizes!r}, expected a list of pairs (height, width), such as [(512, 512)]"
        )
    return [_SIZE.checked(f"sizes[{i}]", size) for i, size in enumerate(sizes)]
