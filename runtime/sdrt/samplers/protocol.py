"""The protocol between a sampler and the code that drives it.

A sampler is a coroutine. It yields a `Call` to ask for the model's prediction at a sample and a
timestep, and is sent that prediction; it yields an `Update` when a step is done, and is sent the
latents to continue with, usually the same ones. The driver owns the model, guidance, batching,
previews and cancellation: `drive` is the smallest one.

Latents are float32 throughout; schedules mix float32 and float64 as diffusers does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias

from sdrt_engines import Array


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Asks for the model's prediction. Send the (guided) prediction, of the sample's shape."""

    sample: Array  # (B, C, h, w), scaled for the model
    timestep: float


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """The latents after the `index`-th `scheduler.step()` of diffusers.

    Send the latents to continue with.
    """

    latents: Array  # (B, C, h, w)
    index: int  # into Schedule.timesteps


Sampler: TypeAlias = Generator[Call | Update, Array, Array]
Noise: TypeAlias = Callable[[], Array]  # standard normals of the latents' shape
Model: TypeAlias = Callable[[Array, float], Array]  # (sample, timestep) -> prediction


def drive(sampler: Sampler, model: Model) -> Array:
    """The final latents (B, C, h, w) of `sampler` when `model` answers its calls."""
    event = next(sampler)
    while True:
        answer = model(event.sample, event.timestep) if isinstance(event, Call) else event.latents
        try:
            event = sampler.send(answer)
        except StopIteration as finished:
            latents: Array = finished.value
            return latents
