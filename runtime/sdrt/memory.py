"""The memory of a request: forecast before any network runs, and refused if it cannot fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from math import ceil, lcm

from sdrt.bundle.folder import Bundle
from sdrt.errors import SdrtError
from sdrt.images.framing import Size, size_text
from sdrt.notes import Note
from sdrt.targets.engine_memory import EngineMemory
from sdrt.targets.engines import Engines
from sdrt.targets.forecast import Forecast, Work, memory_text, out_of_memory
from sdrt.targets.resolving import resolve
from sdrt_engines import (
    BACKENDS,
    Backends,
    FreeMemory,
    OutOfMemoryError,
    Target,
    refusal_of,
)

BY_STAGE = "opened_by_stage"  # the code of a note
_ROUND = 64  # pixels: sizes that are suggested are multiples of it


def forecast_of_work(work: Work, engines: Engines) -> Forecast:
    """The memory that a request will need, and how much is free."""
    return engines.memory.forecast(work.runs, engines.memory.free())


def memory_for(work: Work, engines: Engines) -> AbstractContextManager[Forecast]:
    """Grants memory to a request. OutOfMemoryError, with what would fit, if there is not enough."""
    return engines.memory.granted(work.runs, lambda forecast: _refusal(work, forecast, engines))


def note_on_stages(forecast: Forecast) -> Note:
    """The note on a request whose networks do not fit into memory together."""
    assert forecast.free is not None, "without a limit everything fits"
    return Note(
        BY_STAGE,
        None,
        f"memory: the networks do not fit together into the {memory_text(forecast.free.size)} that "
        f"are free {forecast.free.limit}, so they were opened and closed stage by stage, in each "
        "request: close other programs, or raise the limit",
    )


def fitting(works: Sequence[Work], engines: Engines) -> Work:
    """The first of these ways to run a request that fits, or the last."""
    return next((work for work in works if forecast_of_work(work, engines).fits), works[-1])


def require_fitting(works: Sequence[Work], engines: Engines, others: Backends) -> Work:
    """The first of these ways to run a request that fits here, or else on one of the `others`, the
    targets that may take the place of this one. OutOfMemoryError if none does."""
    work = fitting(works, engines)
    forecast = forecast_of_work(work, engines)
    if forecast.fits:
        return work
    for each in works:
        if fits_on_any(others, each, engines):
            return each
    raise _refusal(work, forecast, engines)


def fits_on_any(backends: Backends, work: Work, engines: Engines) -> bool:
    """True if the request would fit on one of the backends that open, in place of these engines."""
    return any(
        _fits_on(target, work, engines) and refusal_of(backend, target) is None
        for backend in backends
        for target in [Target(backend.name)]
    )


def _refusal(work: Work, forecast: Forecast, engines: Engines) -> OutOfMemoryError:
    remedies = []
    if tile := _smaller_tile(work, forecast, engines):
        pixels = tile * work.latents.vae_scale_factor
        remedies.append(f"set vae_tiling and vae_tile_size={pixels}")
    if size := _smaller(work, forecast, engines):
        remedies.append(f"take {size_text(size)}")
    if target := _other_target(work, forecast, engines):
        remedies.append(f"use target {target}")
    return out_of_memory(f"{size_text(work.size)} pixels", forecast, remedies)


def _smaller_tile(work: Work, forecast: Forecast, engines: Engines) -> int | None:
    """The largest tile of the VAE with which the request would fit."""
    for tiled in work.in_smaller_tiles:
        if engines.memory.forecast(tiled.runs, forecast.free).fits:
            return tiled.tile
    return None


def _smaller(work: Work, forecast: Forecast, engines: Engines) -> Size | None:
    """The largest size of the same proportions that fits."""
    multiple = lcm(_ROUND, work.latents.pixel_multiple)
    for size in _smaller_sizes(work.size, multiple):
        if engines.memory.forecast(replace(work, size=size).runs, forecast.free).fits:
            return size
    return None


def _smaller_sizes(size: Size, multiple: int) -> Iterator[Size]:
    """Sizes of about the same proportions, the largest first."""
    longer = ceil(max(size) / multiple)
    for steps in range(longer - 1, 0, -1):
        width, height = (max(side * steps // max(size), 1) * multiple for side in size)
        yield width, height


def _other_target(work: Work, forecast: Forecast, engines: Engines) -> Target | None:
    """The first other target on which the request would fit, and which opens."""
    for target in (Target(backend.name) for backend in BACKENDS):
        fits = str(target) != forecast.target and _fits_on(target, work, engines)
        if fits and _opens(engines.bundle, target):
            return target
    return None


def _fits_on(target: Target, work: Work, engines: Engines) -> bool:
    memory = EngineMemory(engines.bundle, target, low_memory=engines.low_memory)
    free = memory.free()
    if free is not None:  # these engines would be closed
        free = FreeMemory(free.size + engines.memory.size, free.limit)
    return memory.forecast(work.runs, free).fits


def _opens(bundle: Bundle, target: Target) -> bool:
    try:
        resolve(bundle, target)
    except SdrtError:
        return False
    return True
