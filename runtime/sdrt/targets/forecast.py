"""The memory that a request needs on a target, before anything runs.

A network needs memory for its weights once it is open, and further memory for the arrays between
its layers when it runs. Backends keep both for the next run, so the needs of all networks that are
open together add up: of the whole request or, if that does not fit, of each of its stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from pathlib import Path
from typing import TypeAlias

from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Component
from sdrt.errors import SdrtError
from sdrt.families.activations import NO_ACTIVATIONS, Activations, activations_from_config
from sdrt.families.family import LatentSpace
from sdrt.files.json_fields import JsonFields
from sdrt.targets.reservations import OFF, VARIABLE
from sdrt.targets.runnable import runnable
from sdrt_engines import FreeMemory, MemoryUse, OutOfMemoryError, Target, backend_of
from sdrt_engines.backend import INT8
from sdrt_engines.fused_attention import keeps_scores
from sdrt_engines.onnx_weights import share_in_convolutions

_PROCESS = 100 * 2**20  # bytes of Python, numpy and a backend's library
_NO_MEMORY = MemoryUse(0, 0, 0, 0)
_HALF = ("fp16", "bf16")
_BYTES = {"float16": 2, "bfloat16": 2}  # of a stored weight; others 4


@dataclass(frozen=True)
class NetworkRun:
    """A network of a request: the rows of a run, and the positions h·w of its latents."""

    component: str
    rows: int
    positions: int


# The runs of a request, in their order. The networks of a stage are open together; with more than
# one stage, all others are closed before its own are opened.
Plan: TypeAlias = Sequence[Sequence[NetworkRun]]


@dataclass(frozen=True)
class Work:
    """The networks that a request opens and runs, in this order, and the rows of each run."""

    rows: Mapping[str, int]  # by network
    size: tuple[int, int]  # width and height in pixels
    latents: LatentSpace
    vae: tuple[str, ...] = ()  # of these networks, those that can run tile by tile
    tile: int | None = None  # the side of a tile in latents; None: whole images
    smaller_tiles: tuple[int, ...] = ()  # which would take less memory

    @property
    def runs(self) -> tuple[NetworkRun, ...]:
        return tuple(
            NetworkRun(name, rows, self._positions(name)) for name, rows in self.rows.items()
        )

    @property
    def in_smaller_tiles(self) -> tuple[Work, ...]:
        return tuple(replace(self, tile=tile, smaller_tiles=()) for tile in self.smaller_tiles)

    def _positions(self, name: str) -> int:
        """The positions of the largest run."""
        sides = [side // self.latents.vae_scale_factor for side in self.size]
        if self.tile is not None and name in self.vae:
            sides = [min(side, self.tile) for side in sides]
        return prod(sides)


@dataclass(frozen=True)
class NetworkMemory:
    """The memory of one network on a target, in bytes."""

    opening: int = 0  # at the peak of opening
    weights: int = 0  # once it has run
    mapped: int = 0  # weights that stay in their file, which the system may drop from memory
    activations: Activations = NO_ACTIVATIONS  # all arrays that a run holds at once, for a row

    def of_run(self, run: NetworkRun) -> int:
        """The memory of a run in addition to the weights. The largest feature maps and the largest
        attention matrices exist at different times."""
        of_maps = run.positions * self.activations.feature_map
        of_scores = run.positions**2 * self.activations.scores
        return int(run.rows * max(of_maps, of_scores))


def network_memory(bundle: Bundle, component: Component, target: Target) -> NetworkMemory:
    """The memory of a network, as far as it is known: configurations may be missing."""
    use = backend_of(target).memory or _NO_MEMORY
    network = runnable(bundle.root, component, target)
    size = 0.5 if network.precision in _HALF else 1.0  # of a number
    of_weight = 0.25 if network.precision == INT8 else size
    weights = of_weight * 4 * _num_weights(component)
    arrays = _activations(bundle, component)
    scores = 0 if use.fuses and not _keeps_scores(network.source.graph) else use.scores
    activations = Activations(
        use.feature_maps * size * arrays.feature_map, scores * size * arrays.scores
    )
    if network.prepared and backend_of(target).on_cpu:
        return NetworkMemory(mapped=int(weights), activations=activations)
    return NetworkMemory(
        opening=int(_opening(use, bundle, component) * weights),
        weights=int(use.weights * weights),
        activations=activations,
    )


@dataclass(frozen=True)
class Need:
    """The memory of a network in a request, in bytes."""

    component: str
    opening: int
    weights: int
    running: int  # weights included


def need_of(memory: NetworkMemory, run: NetworkRun) -> Need:
    running = memory.weights + memory.of_run(run)
    return Need(run.component, memory.opening, memory.weights, running)


def growth(needs: Iterable[Need], held: Mapping[str, int]) -> int:
    """The most by which memory grows while all networks are opened, in this order, and run; `held`
    are the bytes of those that are open."""
    peak = opened = running = 0
    for need in needs:
        if need.component not in held:
            peak = max(peak, opened + need.opening)
            opened += need.weights
        running += max(need.running - held.get(need.component, 0), 0)
    return max(peak, running)


def growth_by_stage(stages: Iterable[Sequence[Need]], held: Mapping[str, int]) -> int:
    """The most by which memory grows if networks of other stages are closed before each stage."""
    peak = max(
        sum(held.get(need.component, 0) for need in needs) + growth(needs, held) for needs in stages
    )
    return max(peak - sum(held.values()), 0)


@dataclass(frozen=True)
class Forecast:
    """The memory of a request on a target, in bytes."""

    target: str
    peak: int  # the most that a process takes for this request alone
    mapped: int  # of that, weights that stay in their file: the system may drop them from memory
    further: int  # in addition to what this process holds already
    rows: int  # of the denoiser in one run: it runs in parts if these are fewer than `num_rows`
    num_rows: int
    by_stage: bool  # its networks do not fit together: those of one stage are open at a time
    free: FreeMemory | None  # None: unknown, or not limited

    @property
    def fits(self) -> bool:
        return self.free is None or self.further <= self.free.size


def forecast_of(
    target: Target,
    memories: Mapping[str, NetworkMemory],
    plans: Sequence[Plan],
    held: Mapping[str, int],
    free: FreeMemory | None,
    *,
    in_parts: bool = True,
) -> Forecast:
    """The forecast of the first plan that fits, with the most rows per run that do; if nothing
    fits, of the last plan with one row. `in_parts` False leaves all rows in one run. `held` are the
    bytes of the networks that are open."""
    num_rows = max((run.rows for runs in plans[0] for run in runs), default=1)
    for plan in plans:
        for rows in _halves(num_rows) if in_parts else [num_rows]:
            needs = [[_need(memories, run, rows) for run in runs] for runs in plan]
            by_stage = len(needs) > 1
            further = growth_by_stage(needs, held) if by_stage else growth(needs[0], held)
            mapped = max(sum(memories[run.component].mapped for run in runs) for runs in plan)
            peak = _PROCESS + mapped + max(growth(each, {}) for each in needs)
            found = Forecast(str(target), peak, mapped, further, rows, num_rows, by_stage, free)
            if found.fits:
                return found
    return found


def _halves(number: int) -> Iterator[int]:
    """`number`, half of it, …, 1"""
    while number > 1:
        yield number
        number = ceil(number / 2)
    yield 1


def _need(memories: Mapping[str, NetworkMemory], run: NetworkRun, rows: int) -> Need:
    return need_of(memories[run.component], replace(run, rows=min(run.rows, rows)))


def out_of_memory(what: str, forecast: Forecast, remedies: Sequence[str] = ()) -> OutOfMemoryError:
    """The error for `what` does not fit."""
    assert forecast.free is not None, "without a limit everything fits"
    way_out = " or ".join(remedies) or "close other programs, or raise the limit"
    return OutOfMemoryError(
        f"{what} on target {forecast.target}: expected to take {memory_text(forecast.further)} of "
        f"memory, but {memory_text(forecast.free.size)} are free {forecast.free.limit}: {way_out} "
        f"({VARIABLE}={OFF} tries it anyway)"
    )


def memory_text(size: int) -> str:
    """`7.6 GiB`, `310 MiB`"""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _opening(use: MemoryUse, bundle: Bundle, component: Component) -> float:
    """The memory at the peak of opening, as a multiple of the weights."""
    if not use.widened or component.precision not in _BYTES:
        return use.opening
    try:
        share = share_in_convolutions(bundle.root / component.model)
    except SdrtError:  # it is missing or broken, which opening will report
        share = 0
    return use.opening + use.widened * share


def _keeps_scores(graph: Path) -> bool:
    try:
        return keeps_scores(graph)
    except (OSError, SdrtError):  # it is missing or broken, which opening will report
        return False


def _num_weights(component: Component) -> float:
    stored = sum(file.size for file in component.files)
    return stored / _BYTES.get(component.precision, 4)


def _activations(bundle: Bundle, component: Component) -> Activations:
    try:
        config = JsonFields(bundle.component_config(component.name))
        return activations_from_config(component.role, config)
    except SdrtError:  # it is missing, or of another kind of network
        return NO_ACTIVATIONS
