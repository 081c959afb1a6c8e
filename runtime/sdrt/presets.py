"""The meaning of a request's speed: the calls that its model answers."""

from __future__ import annotations

from collections.abc import Iterator

from sdrt.denoising.speed_presets import forecast_of, measured_calls
from sdrt.notes import Note
from sdrt.request import Request
from sdrt.scheduling import Steps


def forecast_of_request(
    request: Request, guidance_scale: float, steps: Steps, refiner_steps: Steps | None
) -> int | None:
    """The calls that the model answers: the request's number, or what its speed means; None for
    all. Presets were measured for complete schedules of one model."""
    speed = request.speed or "exact"
    if speed == "exact" or is_chosen(request) or refiner_steps is not None or not steps.is_whole:
        return request.forecast
    return forecast_of(speed, steps.sampler, steps.num_calls, guidance_scale)


def is_chosen(request: Request) -> bool:
    """True if the request names what may be left out, so that its speed does not."""
    return request.forecast is not None or request.guidance_interval is not None


def note_without_savings(request: Request, guidance_scale: float, steps: Steps) -> Iterator[Note]:
    """A note if the request's speed leaves out nothing."""
    speed = request.speed or "exact"
    if speed == "exact" or is_chosen(request) or steps.forecast is not None:
        return
    measured = measured_calls(speed, steps.sampler, guidance_scale)
    ends = sorted({*measured[:1], *measured[-1:]})
    others = f" (some for {' to '.join(map(str, ends))} calls)" if ends else ""
    yield Note(
        "speed_exact",
        "speed",
        f"speed: '{speed}' leaves out nothing here, as no measured saving fits {steps.sampler} "
        f"with these {steps.num_calls} calls at guidance {guidance_scale:g}{others}",
    )
