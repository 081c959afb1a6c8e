"""The target that runs a bundle on this machine."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import ENGINES
from sdrt.parameters import Speed
from sdrt.targets.auto import backends_for_auto
from sdrt.targets.int8 import int8_refusal
from sdrt_engines import BACKENDS, Backend, Backends, Resolution, Settings, Target, resolve_target


def resolve(
    bundle: Bundle,
    target: str | Target = "auto",
    backends: Backends = BACKENDS,
    *,
    num_threads: int | None = None,
    speed: Speed = "exact",
) -> Resolution:
    """The target that will run this bundle here: it opens on this machine, and its files are in the
    bundle and its refiner. `"auto"` is the fastest that `speed` admits, as measured by `sdrt tune`,
    with its best number of threads unless `num_threads` is given. Raises the errors of
    `resolve_target`.
    """
    checked: Backends = [
        replace(backend, refusal=partial(_refusal, bundle, backend)) for backend in backends
    ]
    if isinstance(target, str) and target == "auto":
        checked = backends_for_auto(bundle, checked, speed)
    return resolve_target(target, checked, num_threads=num_threads)


def _refusal(bundle: Bundle, backend: Backend, target: Settings) -> str | None:
    if reason := backend.refusal(target) or int8_refusal(bundle, backend, target):
        return reason
    if backend.runs == "plans" and not (bundle.root / ENGINES / backend.name).is_dir():
        return (
            f"'{bundle.root}' has no engines for {backend.name}: "
            f"`sdrt build {bundle.root} --target {target}` builds them"
        )
    in_float = Target(backend.name, target.architectures)  # a refiner may compute in float32
    return None if bundle.refiner is None else _refusal(bundle.refiner, backend, in_float)
