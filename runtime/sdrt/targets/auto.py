"""The targets that `auto` tries on a bundle, in the order that `sdrt tune` measured on this
machine, else in the order of the backends.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sdrt.bundle.folder import Bundle
from sdrt.parameters import Speed
from sdrt.targets.admission import PRECISIONS, refusal_of_built, refusal_of_measured
from sdrt.targets.tuned_file import tuning_of
from sdrt_engines import Backend, Backends, Settings, Target

if TYPE_CHECKING:
    from sdrt.targets.tuned import Tuning


def backends_for_auto(bundle: Bundle, backends: Backends, speed: Speed = "exact") -> Backends:
    """The backends from which `auto` takes the first that opens: the measured ones, fastest first,
    then the others in their order. Each refuses targets that are not admitted, for the refiner
    included, and has its best number of threads. For a speed other than "exact" a backend comes in
    each precision that this speed admits.
    """
    backends = [variant for backend in backends for variant in _in_precisions(backend, speed)]
    return _for_auto(bundle, backends, speed)


def _for_auto(bundle: Bundle, backends: Backends, speed: Speed) -> Backends:
    if bundle.refiner is not None:
        backends = _for_auto(bundle.refiner, backends, speed)
    tuning = tuning_of(bundle)
    if tuning is None:
        return [_by_build(bundle, backend) for backend in backends]
    places = {found.target: place for place, found in enumerate(tuning.ranking())}
    in_order = sorted(backends, key=lambda each: places.get(str(_target(each)), len(places)))
    return [_by_verdict(bundle, backend, tuning, speed) for backend in in_order]


def _in_precisions(backend: Backend, speed: Speed) -> Iterator[Backend]:
    """The backend in its default precision, and in those that a speed admits."""
    yield backend
    for precision in backend.precisions[1:]:
        if precision in PRECISIONS[speed]:
            yield replace(backend, precision=precision)


def _target(backend: Backend) -> Target:
    return Target(backend.name, precision=backend.precision)


def slowness_warning(tuning: Tuning, target: Target) -> str | None:
    """A warning if a backend was measured to be faster in its default precision than as
    `target`."""
    default = Target(target.backend)
    seconds, fewer = tuning.seconds_on(target), tuning.seconds_on(default)
    if seconds is None or fewer is None or seconds <= fewer:
        return None
    return (
        f"{target} takes {seconds / fewer:.2g} times as long as {default} on this processor "
        f"(sdrt tune): use {default}"
    )


def warn_if_slower(bundle: Bundle, target: Target) -> None:
    """Warns of a named target that was measured to be slower than its backend's default."""
    if target == Target(target.backend):
        return
    tuning = tuning_of(bundle)
    message = None if tuning is None else slowness_warning(tuning, target)
    if message is not None:
        warnings.warn(message, stacklevel=3)


def _by_verdict(bundle: Bundle, backend: Backend, tuning: Tuning, speed: Speed) -> Backend:
    found = tuning.of(_target(backend))
    if found is None:
        return _by_build(bundle, backend)
    refused = _also_refusing(backend, lambda: refusal_of_measured(found, speed))
    return replace(refused, num_threads=found.best.num_threads if found.best else None)


def _by_build(bundle: Bundle, backend: Backend) -> Backend:
    if backend.precision is not None:
        return _also_refusing(backend, lambda: "sdrt tune has not measured it for this bundle")
    return _also_refusing(backend, partial(refusal_of_built, bundle, backend))


def _also_refusing(backend: Backend, reason: Callable[[], str | None]) -> Backend:
    """The backend with a second reason to refuse, which is checked after its own."""

    def refusal(target: Settings) -> str | None:
        return backend.refusal(target) or reason()

    return replace(backend, refusal=refusal)
