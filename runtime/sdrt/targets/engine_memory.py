"""The memory of a target's engines: what they hold, and what requests will need."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby

from sdrt import tensor_names as names
from sdrt.ask import Ask, Link
from sdrt.bundle.folder import Bundle
from sdrt.targets.forecast import (
    Forecast,
    NetworkMemory,
    NetworkRun,
    Plan,
    forecast_of,
    network_memory,
    out_of_memory,
)
from sdrt.targets.reservations import IN_MEMORY, ON_GPU
from sdrt_engines import FreeMemory, SdrtError, Target, backend_of
from sdrt_engines.time_limit import held

TAKES_TURNS = 2**26  # bytes of a run; a smaller one may not keep all cores busy

Refused = Callable[[Forecast], SdrtError]


@dataclass(frozen=True)
class _Claim:
    """The memory that a running request was granted."""

    kept: Mapping[str, int]  # bytes that each of its networks will hold when it ends
    shared: int  # bytes that all open networks will hold at most, if it runs by stage; else 0


class EngineMemory:
    """The memory of a bundle's engines on a target. May be used from several threads.

    Nothing is known of the networks in `foreign`, which are not the bundle's. With `low_memory`
    each request runs by stage.
    """

    def __init__(
        self,
        bundle: Bundle,
        target: Target,
        foreign: Container[str] = (),
        *,
        low_memory: bool = False,
    ) -> None:
        self._bundle, self._target, self._foreign = bundle, target, foreign
        self.low_memory = low_memory
        self._on_cpu = backend_of(target).on_cpu
        self._reservations = IN_MEMORY if self._on_cpu else ON_GPU
        self._memories: dict[str, NetworkMemory] = {}
        self._held: dict[str, int] = {}  # bytes of the networks that are open
        self._claims: dict[object, _Claim] = {}  # of the running requests
        self._max_rows: dict[tuple[str, int], int] = {}  # by network and positions
        self._turn = threading.Lock()

    @property
    def size(self) -> int:
        """The bytes of all networks that are open."""
        return sum(self._held.values())

    def free(self) -> FreeMemory | None:
        """The memory that is free for another request; None if it is not limited."""
        return self._reservations.free()

    def forecast(
        self, runs: Sequence[NetworkRun], free: FreeMemory | None, *, in_parts: bool = True
    ) -> Forecast:
        """The forecast for a request that opens and runs these networks in this order."""
        memories = {run.component: self._memory(run.component) for run in runs}
        plans = self._plans(runs) if in_parts else [[runs]]
        return forecast_of(
            self._target, memories, plans, self._held_soon(), free, in_parts=in_parts
        )

    @contextmanager
    def granted(self, runs: Sequence[NetworkRun], refused: Refused) -> Iterator[Forecast]:
        """Grants memory to a request until the block ends, and chooses its rows per run, and which
        of its networks are open together.

        Raises the error that `refused` makes of the forecast if the request does not fit.
        """
        key, found = object(), []

        def choose() -> int:
            forecast = self.forecast(runs, self.free())
            if not forecast.fits:
                raise refused(forecast)
            self._claims[key] = self._claim(runs, forecast)
            for run in runs:
                self._max_rows[run.component, run.positions] = forecast.rows
            found.append(forecast)
            return forecast.further

        try:
            with self._reservations.granted(choose):
                yield found[0]
        finally:
            self._claims.pop(key, None)

    def require(self, asks: Iterable[Ask]) -> None:
        """OutOfMemoryError if there is not enough memory to open and run the networks of asks, each
        in one run."""
        runs = {link.component: self._run_of(link) for ask in asks for link in ask.chain}
        forecast = self.forecast(tuple(runs.values()), self.free(), in_parts=False)
        if not forecast.fits:
            raise out_of_memory(", ".join(runs), forecast)

    def max_rows(self, ask: Ask) -> int:
        """The rows of the ask that were granted memory for one run."""
        run = self._run_of(ask.chain[-1])
        return self._max_rows.get((run.component, run.positions), ask.num_rows)

    def opened(self, name: str) -> None:
        self._held.setdefault(name, self._memory(name).weights)

    def closed(self, name: str) -> None:
        self._held.pop(name, None)

    @contextmanager
    def turn(self, ask: Ask) -> Iterator[bool]:
        """Waits for the turn of an ask, if it takes one. True if only networks of its stage may be
        open in the block.

        Large runs on the CPU take turns and share their memory: each keeps all cores busy. While a
        request runs by stage, all runs do.
        """
        by_stage = self.by_stage
        large = self._on_cpu and max(self._sizes(ask).values()) > TAKES_TURNS
        with held(self._turn) if large or by_stage else nullcontext():
            yield by_stage

    def ran(self, ask: Ask) -> None:
        """Counts the memory that the networks of an ask keep for their next run."""
        for name, size in self._sizes(ask).items():
            self._held[name] = max(self._held.get(name, 0), self._memory(name).weights + size)

    def stage(self, name: str) -> str:
        """The stage of a network: its role, that of the denoiser for ControlNets. A refiner has
        stages of its own."""
        role = self._bundle.component(name).role
        stage = "denoiser" if role == "controlnet" else role
        return stage if names.in_refiner(name) is None else names.of_refiner(stage)

    @property
    def by_stage(self) -> bool:
        """True while a request runs by stage."""
        return any(claim.shared for claim in list(self._claims.values()))

    def _plans(self, runs: Sequence[NetworkRun]) -> Sequence[Plan]:
        """All networks open together or, second, those of a stage."""
        in_stages = sorted(runs, key=lambda run: self.stage(run.component))
        by_stage = [
            list(group) for _, group in groupby(in_stages, lambda run: self.stage(run.component))
        ]
        return [by_stage] if self.low_memory or self.by_stage else [[runs], by_stage]

    def _sizes(self, ask: Ask) -> dict[str, int]:
        """The bytes that each network of an ask needs for its run."""
        runs = [self._run_of(link) for link in ask.chain]
        return {run.component: self._memory(run.component).of_run(run) for run in runs}

    def _claim(self, runs: Sequence[NetworkRun], forecast: Forecast) -> _Claim:
        if forecast.by_stage:  # nothing is sure to stay open
            return _Claim({}, sum(self._held_soon().values()) + forecast.further)
        kept = {}
        for run in runs:
            memory = self._memory(run.component)
            part = NetworkRun(run.component, min(run.rows, forecast.rows), run.positions)
            kept[run.component] = memory.weights + memory.of_run(part)
        return _Claim(kept, 0)

    def _held_soon(self) -> Mapping[str, int]:
        """The bytes that networks hold, or will hold when the running requests end. Requests that
        run by stage share what they were granted: the rest of it has no name."""
        claims = list(self._claims.values())
        found = _greatest([self._held, *(claim.kept for claim in claims)])
        shared = max((claim.shared for claim in claims), default=0)
        return found | {"": max(shared - sum(found.values()), 0)}

    def _memory(self, name: str) -> NetworkMemory:
        if name not in self._memories:
            known = name not in self._foreign
            bundle, own = self._bundle.owner_of(name)
            component = bundle.component(own)
            self._memories[name] = (
                network_memory(bundle, component, self._target) if known else NetworkMemory()
            )
        return self._memories[name]

    def _run_of(self, link: Link) -> NetworkRun:
        sample = link.changing.get(names.SAMPLE, link.changing.get(names.LATENT_SAMPLE))
        if sample is None or sample.ndim < 4:
            return NetworkRun(link.component, len(link.rows), 0)
        positions = sample.shape[-1] * sample.shape[-2]
        if self._bundle.component(link.component).role == "vae encoder":
            positions //= self._bundle.family.latents.vae_scale_factor**2
        return NetworkRun(link.component, len(link.rows), positions)


def _greatest(sizes: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The greatest size of each network."""
    found: dict[str, int] = {}
    for each in sizes:
        for name, size in list(each.items()):
            found[name] = max(found.get(name, 0), size)
    return found
