"""The candidates: targets, each with some numbers of threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from sdrt.bundle.folder import Bundle
from sdrt.targets.resolving import resolve
from sdrt.targets.runnable import NETWORK_PRECISION
from sdrt_engines import BACKENDS, Backends, Target, TargetError, backend_of, variants_of
from sdrt_engines.processor import num_physical_cores, usable_cores

NumThreads: TypeAlias = int | None  # None: the library's choice


@dataclass(frozen=True)
class Candidate:
    """A target with a number of threads."""

    target: Target
    num_threads: NumThreads = None

    def __str__(self) -> str:
        if self.num_threads is None:
            return str(self.target)
        return f"{self.target} with {self.num_threads} threads"


def candidates_of(
    bundle: Bundle,
    targets: Sequence[Target],
    num_threads: Sequence[NumThreads],
    backends: Backends = BACKENDS,
) -> Mapping[Target, tuple[Candidate, ...]]:
    """The given targets, or all that open here, including those that `auto` never takes.

    TargetError if a named one does not open, or none does.
    """
    chosen = [_as_it_runs(resolve(bundle, target, backends).target) for target in targets]
    chosen = chosen or _opening(bundle, backends)
    return {
        target: tuple(Candidate(target, number) for number in num_threads)
        if backend_of(target).on_cpu
        else (Candidate(target),)
        for target in chosen
    }


def default_num_threads() -> tuple[NumThreads, ...]:
    """The library's choice, which is one thread per physical core, and one per core that this
    process may use, if that number differs."""
    logical, physical = usable_cores(), num_physical_cores()
    return (None,) if logical == physical else (None, logical)


def computes_as_the_reference(target: Target) -> bool:
    """True if it computes in float32 on the CPU, so there is nothing to compare."""
    precision = backend_of(target).chosen_precision(target) or NETWORK_PRECISION
    return backend_of(target).on_cpu and precision == NETWORK_PRECISION


def _as_it_runs(target: Target) -> Target:
    """The target without settings that have no effect: architectures, the default precision."""
    default = next(iter(backend_of(target).precisions), None)
    precision = None if target.precision == default else target.precision
    return replace(target, architectures=(), precision=precision)


def _opening(bundle: Bundle, backends: Backends) -> list[Target]:
    found = []
    for target in (target for backend in backends for target in variants_of(backend)):
        try:
            found.append(resolve(bundle, target, backends).target)
        except TargetError:
            continue
    if not found:
        resolve(bundle, "auto", backends)  # raises, with every reason
    return found
