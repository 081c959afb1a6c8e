"""The results of a request: steps while the images form, and the final result."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sdrt.errors import SdrtError
from sdrt.notes import Note
from sdrt.timings import Timings
from sdrt_engines import Array

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdrt.request import Request


@dataclass(frozen=True)
class Result:
    """The images of one request, with everything that is needed to generate them again.

    Fields:
        images: PIL images in RGB
        seeds: one for each image
        latents: the final latents, float32 (B, C, h, w), before the VAE decoder's scaling
        request: the request with every None replaced by the value that was used
        engine: the target that ran it; after a fallback also which target failed, and why
        timings: the wall-clock seconds of each stage
        notes: settings that had no effect, or whose effect may surprise you
    """

    images: tuple[Image, ...]
    seeds: tuple[int, ...]
    latents: Array
    request: Request
    engine: str
    timings: Timings
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Step:
    """The state after one step of the sampler. Breaking out of the loop over steps cancels the
    request.


    Fields:
        index: the number of the step, counted from 0
        total: the number of steps
        timestep: the training timestep of the model's last call
        latents: float32 (B, C, h, w)
    """

    index: int
    total: int
    timestep: float
    latents: Array
    _preview: Callable[[], tuple[Image, ...]] = field(repr=False)

    def preview(self) -> tuple[Image, ...]:
        """The images as the model currently predicts them; each call runs the VAE decoder once."""
        return self._preview()


class Stream(Iterator[Step]):
    """The steps of a running request; after the last one, `result` holds the
    images."""

    def __init__(self, steps: Generator[Step, None, Result]) -> None:
        self._steps = steps
        self._result: Result | None = None

    def __next__(self) -> Step:
        try:
            return next(self._steps)
        except StopIteration as finished:
            self._result = finished.value or self._result
            raise StopIteration from None

    @property
    def result(self) -> Result:
        """The images. Raises `SdrtError` before the last step has been taken."""
        if self._result is None:
            raise SdrtError(
                "the stream has not finished: take all of its steps before asking for its result"
            )
        return self._result

    def close(self) -> None:
        """Cancels the request."""
        self._steps.close()
