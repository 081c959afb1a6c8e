"""The engines of a bundle: which target and file each component runs as, opened on demand."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np

from sdrt import tensor_names as names
from sdrt.ask import Constant, Link
from sdrt.bundle.file_records import verified_meanwhile
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import ENGINES
from sdrt.bundle.unlinked import unlinked
from sdrt.targets.auto import backends_for_auto
from sdrt.targets.engine_memory import EngineMemory
from sdrt.targets.runnable import runnable
from sdrt_engines import (
    BACKENDS,
    Backend,
    Backends,
    Engine,
    EngineError,
    Pinned,
    Resolution,
    Settings,
    Signature,
    Target,
    engine_from_onnx,
    resolve_target,
    shape_at,
)
from sdrt_engines.recent import Recent

NUM_ZEROS = 4  # sets of zero residuals kept on the device


class Engines:
    """Each component's engine, opened on first use, and its uploaded feeds. May be used from
    several threads.

    `engines` replace the bundle's own, by component name.
    """

    def __init__(
        self, bundle: Bundle, resolution: Resolution, engines: Mapping[str, Engine] | None = None
    ) -> None:
        self.bundle = bundle
        self.ran_on = str(resolution)  # as in `Result.engine`
        self._resolution = resolution
        self._stages = {
            component.name: component.role.replace(" ", "_")
            for component in bundle.manifest.components
        }
        self._open = dict(engines or {})
        self.memory = EngineMemory(bundle, resolution.target, frozenset(self._open))
        self._uploads: WeakKeyDictionary[Constant, Mapping[str, Pinned]] = WeakKeyDictionary()
        self._zeros: Recent[Mapping[str, Pinned]] = Recent(NUM_ZEROS)
        self.max_rows: dict[tuple[str, int], int] = {}  # of a run, as memory has allowed
        self._changing = threading.RLock()
        self._closed = False

    def __getitem__(self, name: str) -> Engine:
        with self._changing:
            if self._closed:
                raise EngineError("this pipeline is closed: open it again to run it")
            if name not in self._open:
                component, target = self.bundle.component(name), self._resolution.target
                network = runnable(self.bundle.root, component, target)
                self._open[name] = network.open(self._resolution.num_threads)
                self.memory.opened(name)
            return self._open[name]

    def stage(self, name: str) -> str:
        """The name of a component's seconds in timings: its role."""
        return self._stages[name]

    def pinned(self, link: Link) -> Mapping[str, Pinned]:
        """The constant feeds of a link, uploaded once and kept while they are referenced."""
        pinned = self._uploads.get(link.constant)
        if pinned is None:
            engine, feeds = self[link.component], link.constant.feeds
            pinned = {name: engine.pin(name, array) for name, array in feeds.items()}
            self._uploads[link.constant] = pinned
        return pinned

    def zero_residuals(self, link: Link) -> Mapping[str, Pinned]:
        """Zero residuals for a network whose sample is the link's."""
        sample, engine = link.changing[names.SAMPLE].shape, self[link.component]
        with self._changing:
            return self._zeros.get_or_make(
                (link.component, sample),
                lambda: {
                    name: engine.pin(name, np.zeros(shape, np.float32))
                    for name, shape in residual_shapes(engine.signature, sample).items()
                },
            )

    def close(self) -> None:
        """Closes the open engines and forgets their uploaded feeds."""
        with self._changing, ExitStack() as stack:  # which closes all, even if one fails
            self._closed = True
            self._uploads.clear()
            self._zeros.clear()
            for engine in self._open.values():
                stack.callback(engine.close)


def residual_shapes(signature: Signature, sample: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shape of each residual that a network takes for a sample (R, C, h, w)."""
    dims = signature.input(names.SAMPLE).shape
    sizes = {dim: size for dim, size in zip(dims, sample, strict=True) if isinstance(dim, str)}
    return {
        spec.name: shape_at(spec, sizes)
        for spec in signature.inputs
        if names.is_residual(spec.name)
    }


def resolve(
    bundle: Bundle,
    target: str | Target = "auto",
    backends: Backends = BACKENDS,
    *,
    num_threads: int | None = None,
) -> Resolution:
    """The target that will run this bundle here: it opens on this machine, and its files are in the
    bundle. `"auto"` is the fastest that is admitted, as measured by `sdrt tune`, with its best
    number of threads unless `num_threads` is given.

    Raises the errors of `resolve_target`.
    """
    checked: Backends = [
        replace(backend, refusal=partial(_refusal, bundle, backend)) for backend in backends
    ]
    if isinstance(target, str) and target == "auto":
        checked = backends_for_auto(bundle, checked)
    return resolve_target(target, checked, num_threads=num_threads)


def _refusal(bundle: Bundle, backend: Backend, target: Settings) -> str | None:
    if reason := backend.refusal(target):
        return reason
    if backend.runs == "plans" and not (bundle.root / ENGINES / backend.name).is_dir():
        return (
            f"'{bundle.root}' has no engines for {backend.name}: "
            f"`sdrt build {bundle.root} --target {target}` builds them"
        )
    return None


def open_engine(
    bundle: Bundle, name: str, target: str | Target = "auto", *, num_threads: int | None = None
) -> Engine:
    """The component called `name`, ready to run on `target`; its files are verified."""
    component = bundle.component(name)
    resolution = resolve(bundle, target, num_threads=num_threads)
    return runnable(bundle.root, component, resolution.target).open(resolution.num_threads)


def open_reference(bundle: Bundle, name: str, *, num_threads: int | None = None) -> Engine:
    """The component as exported, on the CPU in float32: the reference for all others."""
    component = bundle.component(name)
    files = component.files
    with verified_meanwhile(bundle.root, files), unlinked(bundle.root, files) as root:
        return engine_from_onnx(root / component.model, name=name, num_threads=num_threads)
