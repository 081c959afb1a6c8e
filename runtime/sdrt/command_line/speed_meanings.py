"""The presets of `--speed` on this machine, with a bundle's own defaults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sdrt.bundle.folder import Bundle
from sdrt.denoising.speed_presets import BARS, forecast_of
from sdrt.errors import SdrtError
from sdrt.parameters import Speed
from sdrt.request import Request
from sdrt.scheduling import Steps, steps_of
from sdrt.targets.resolving import resolve


@dataclass(frozen=True)
class Meaning:
    """The target that `auto` takes for a preset, and the calls that the model answers."""

    speed: Speed
    target: str
    forecast: int | None  # None: all
    setting: str  # the sampler, its calls and the guidance

    def __str__(self) -> str:
        saving = f"--forecast {self.forecast}" if self.forecast else "nothing left out"
        return f"--speed {self.speed}: {self.target}, {saving} ({self.setting})"


def meanings_of(bundle: Bundle) -> tuple[Meaning, ...]:
    """Those of all presets; none if no target opens, or the bundle's own steps are impossible."""
    try:
        return tuple(_meanings_of(bundle))
    except SdrtError:
        return ()


def _meanings_of(bundle: Bundle) -> Iterator[Meaning]:
    steps, guidance_scale = _defaults(bundle)
    sampler, num_calls = steps.sampler, steps.num_calls
    for speed in BARS:
        yield Meaning(
            speed,
            str(resolve(bundle, speed=speed).target),
            forecast_of(speed, sampler, num_calls, guidance_scale),
            f"{sampler}, {num_calls} calls, guidance {guidance_scale:g}",
        )


def _defaults(bundle: Bundle) -> tuple[Steps, float]:
    """The steps and the guidance of a request that names neither."""
    request = Request("an image")
    guidance_scale: float = bundle.defaults_for(request.task)["guidance_scale"]
    return steps_of(request, 1.0, bundle), guidance_scale
