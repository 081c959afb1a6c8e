"""The results of a request: steps while the images form, and the final result."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any

from sdrt.errors import SdrtError
from sdrt.notes import Note
from sdrt.stopping import Stop
from sdrt.timings import Timings
from sdrt_engines import Array

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdrt.metadata.saving import Metadata
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
        parameters: those of each image, enough to generate it again, as its PNG records them
        num_calls: for each image, how many calls of the sampler the model answered
        num_forecasts: and how many were forecast
    """

    images: tuple[Image, ...]
    seeds: tuple[int, ...]
    latents: Array
    request: Request
    engine: str
    timings: Timings
    notes: tuple[Note, ...] = ()
    parameters: tuple[Mapping[str, Any], ...] = ()
    num_calls: tuple[int, ...] = ()
    num_forecasts: tuple[int, ...] = ()

    def save(self, path: str | PathLike[str], metadata: Metadata = "full") -> tuple[Path, ...]:
        """Writes the images as PNGs that record their parameters; returns the paths.

        One image goes to `path`, several to out-1.png, out-2.png, …; files of these names are
        replaced. Paths in the parameters are relative to the image, with the hash of each file.
        `metadata` "no-paths" leaves them out, "none" leaves out all parameters. Raises `SdrtError`
        for a file that cannot be written, or that is an input of the request.
        """
        from sdrt.metadata.saving import save_images  # only this needs to encode PNGs

        return save_images(self.images, self.parameters, Path(path), metadata)


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
        """The images as the model currently predicts them; each call runs a VAE decoder once: the
        tiny one if the bundle has one."""
        return self._preview()


class Stream(Iterator[Step]):
    """The steps of a running request; after the last one, `result` holds the
    images."""

    def __init__(self, steps: Generator[Step, None, Result], stop: Stop) -> None:
        self._steps, self._stop = steps, stop
        self._result: Result | None = None
        self._taking = Lock()
        self._closed_by: int | None = None  # a thread

    def __next__(self) -> Step:
        if not self._taking.acquire(blocking=False):
            raise SdrtError(
                "another thread is taking a step of this stream: take its steps one after another, "
                "or make a stream for each thread"
            )
        try:
            step = next(self._steps)
        except StopIteration as finished:
            self._result = finished.value or self._result
            if self._result is None and self._closed_by not in (None, get_ident()):
                self._stop.require_not_cancelled()
            raise StopIteration from None
        finally:
            self._taking.release()
        self._stop.reached = _after(step)
        return step

    @property
    def result(self) -> Result:
        """The images. Raises `SdrtError` before the last step has been taken."""
        if self._result is None:
            raise SdrtError(
                "the stream has not finished: take all of its steps before asking for its result"
            )
        return self._result

    def close(self) -> None:
        """Cancels the request.

        Another thread that takes steps gets `RequestCancelled`: if it is taking one, when the
        network that is running has ended.
        """
        self._closed_by, self._stop.cancelled = get_ident(), True
        if self._taking.acquire(blocking=False):
            try:
                self._steps.close()
            finally:
                self._taking.release()


def _after(step: Step) -> str:
    if step.index + 1 == step.total:
        return "after the last step"
    return f"in step {step.index + 2} of {step.total}"
