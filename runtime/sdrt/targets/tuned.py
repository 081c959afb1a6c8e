"""The measurements of `sdrt tune` for a bundle on a machine, and the ranking of its targets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sdrt.errors import BundleError
from sdrt_engines import Target
from sdrt_engines.threads import MAX_THREADS, require_num_threads

_LARGEST = 1e9  # limit of all numbers here: seconds, pixels, runs


@dataclass(frozen=True)
class Shape:
    """The size of images that are generated at once, and their number."""

    width: int  # pixels
    height: int
    batch: int = 1  # images

    def __post_init__(self) -> None:
        _require_positive(self, "width", "height", "batch")

    def __str__(self) -> str:
        images = f"{self.batch} × " if self.batch > 1 else ""
        return f"{images}{self.width}×{self.height}"


@dataclass(frozen=True)
class StepTime:
    """The seconds of one run of a denoiser: the median of several, and half of their range."""

    seconds: float
    spread: float = 0.0

    def __post_init__(self) -> None:
        _require_positive(self, "seconds")
        if self.spread < 0:
            raise BundleError(f"spread: got {self.spread}, expected 0 or more")


@dataclass(frozen=True)
class Trial:
    """A target's denoiser with a number of threads, at each shape; or the reason of its failure."""

    num_threads: int | None = None  # None: the library's choice
    steps: tuple[StepTime, ...] = ()
    error: str | None = None

    def __post_init__(self) -> None:
        require_num_threads(self.num_threads, MAX_THREADS)  # of any machine
        if (self.error is None) != bool(self.steps):
            raise BundleError("steps: expected some if the trial ran, none if it failed")

    @property
    def seconds(self) -> float:
        """Seconds of one run, over all shapes. Only for a trial that ran."""
        return overall([step.seconds for step in self.steps])


@dataclass(frozen=True)
class Ends:
    """The seconds before the denoiser, and after it."""

    text: float  # every text encoder
    decode: float  # every image of the batch

    def __post_init__(self) -> None:
        _require_positive(self, "text", "decode")


@dataclass(frozen=True)
class TunedTarget:
    """A target with its measurements at each shape, or with its error."""

    target: str
    trials: tuple[Trial, ...] = ()
    ends: tuple[Ends, ...] = ()  # with the best number of threads
    psnr: float | None = None  # dB; None: float32 on the CPU, or equal to that
    error: str | None = None

    def __post_init__(self) -> None:
        Target.parse(self.target)
        if self.error is None and self.best is None:
            raise BundleError("trials: expected one that ran, or an error")

    @property
    def best(self) -> Trial | None:
        """The trial with the best number of threads; None if none ran."""
        return best_of(self.trials)


@dataclass(frozen=True)
class Machine:
    """The hardware facts that times depend on."""

    processor: str
    num_cores: int  # that a process may use
    gpus: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join((self.processor, f"{self.num_cores} cores", *self.gpus))


@dataclass(frozen=True)
class Conditions:
    """The conditions of a verdict: a machine, its libraries, and a bundle."""

    machine: Machine
    packages: Mapping[str, str]  # with their versions
    manifest: str  # SHA-256
    built: str  # SHA-256 over the records of what was built for targets


@dataclass(frozen=True)
class Tuning:
    """The verdict of `sdrt tune` on a bundle."""

    created: str  # ISO 8601
    conditions: Conditions
    shapes: tuple[Shape, ...]
    num_steps: int  # runs of the denoiser for an image
    targets: tuple[TunedTarget, ...]

    def __post_init__(self) -> None:
        _require_date(self.created)
        _require_positive(self, "num_steps")
        if not self.shapes:
            raise BundleError("shapes: got none, expected at least one")
        for found in self.targets:
            self._require_every_shape(found)

    def of(self, target: Target) -> TunedTarget | None:
        """The measured target, or None."""
        return next((found for found in self.targets if found.target == str(target)), None)

    def seconds_on(self, target: Target) -> float | None:
        """Seconds per image, over all shapes; None if the target was not measured."""
        found = self.of(target)
        return None if found is None or found.error else overall(self.seconds_per_image(found))

    def ranking(self) -> tuple[TunedTarget, ...]:
        """The measured targets, fastest first."""
        measured = [found for found in self.targets if found.error is None]
        return tuple(sorted(measured, key=lambda found: overall(self.seconds_per_image(found))))

    def seconds_per_image(self, found: TunedTarget) -> tuple[float, ...]:
        """Seconds at each shape, on a measured target."""
        assert found.best is not None
        return tuple(
            (ends.text + self.num_steps * step.seconds + ends.decode) / shape.batch
            for shape, step, ends in zip(self.shapes, found.best.steps, found.ends, strict=True)
        )

    def _require_every_shape(self, found: TunedTarget) -> None:
        counts = [len(trial.steps) for trial in found.trials if trial.error is None]
        if found.error is None:
            counts.append(len(found.ends))
        for count in counts:
            if count != len(self.shapes):
                raise BundleError(
                    f"{found.target}: got times at {count} shapes, expected {len(self.shapes)}"
                )


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The fastest trial that ran; None if none did."""
    ran = [trial for trial in trials if trial.error is None]
    return min(ran, key=lambda trial: trial.seconds, default=None)


def overall(seconds: Sequence[float]) -> float:
    """One number for the times at several shapes: their geometric mean.

    So twice as fast at one shape and half as fast at another is a tie, whichever shape takes
    longer.
    """
    return math.exp(sum(map(math.log, seconds)) / len(seconds))


def _require_positive(record: object, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if not 0 < value <= _LARGEST:
            raise BundleError(f"{name}: got {value}, expected above 0 and at most {_LARGEST:g}")


def _require_date(text: str) -> None:
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise BundleError(f"created: got '{text}', expected a date and time, ISO 8601") from error
