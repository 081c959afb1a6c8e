"""What a bundle runs as on a target: which target that is, which file, and its engine, opened."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from sdrt.bundle.file_records import verified_meanwhile
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import ENGINES
from sdrt.targets.runnable import runnable
from sdrt_engines import (
    BACKENDS,
    Backend,
    Backends,
    Engine,
    EngineError,
    Resolution,
    Settings,
    Target,
    engine_from_onnx,
    resolve_target,
)


class Engines:
    """Each component's engine, opened when it is first asked for. May be used from several threads.

    ``engines`` take the place of the bundle's own, by the component's name.
    """

    def __init__(
        self, bundle: Bundle, target: Target, engines: Mapping[str, Engine] | None = None
    ) -> None:
        self.bundle = bundle
        self.target = target
        self._open = dict(engines or {})
        self._loading = threading.RLock()
        self._closed = False

    def __getitem__(self, name: str) -> Engine:
        with self._loading:
            if self._closed:
                raise EngineError("this pipeline is closed: open it again to run it")
            if name not in self._open:
                self._open[name] = open_engine(self.bundle, name, self.target)
            return self._open[name]

    def close(self) -> None:
        """Closes those that were opened."""
        with self._loading:
            self._closed = True
            for engine in self._open.values():
                engine.close()


def resolve(
    bundle: Bundle, target: str | Target = "auto", backends: Backends = BACKENDS
) -> Resolution:
    """The target that will run this bundle here: it opens on this machine, and what it needs is in
    the bundle. `"auto"` is the fastest of them.

    TargetError when an explicit target cannot, or none can.
    """
    checked = [replace(backend, refusal=partial(_refusal, bundle, backend)) for backend in backends]
    return resolve_target(target, checked)


def _refusal(bundle: Bundle, backend: Backend, target: Settings) -> str | None:
    if reason := backend.refusal(target):
        return reason
    if backend.runs == "plans" and not (bundle.root / ENGINES / backend.name).is_dir():
        return (
            f"'{bundle.root}' has no engines for {backend.name}: "
            f"`sdrt build {bundle.root} --target {target}` makes them"
        )
    return None


def open_engine(bundle: Bundle, name: str, target: str | Target = "auto") -> Engine:
    """The component called `name`, ready to run on `target`; its files are verified."""
    component = bundle.component(name)
    return runnable(bundle.root, component, resolve(bundle, target).target).open()


def open_reference(bundle: Bundle, name: str) -> Engine:
    """The component as it was exported, on the CPU in float32: the oracle of all others."""
    component = bundle.component(name)
    with verified_meanwhile(bundle.root, component.files):
        return engine_from_onnx(bundle.root / component.model, name=name)
