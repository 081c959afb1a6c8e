"""What a bundle runs as on a target: which target that is, which file, and its engine, opened."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial

from sdrt.bundle.file_records import verified_meanwhile
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import ENGINES, Component, FileRecord
from sdrt.targets.built_graph import BuiltGraph, HalfGraph, prepared_graph_of
from sdrt_engines import (
    BACKENDS,
    Backends,
    Engine,
    EngineError,
    Refuse,
    Resolution,
    Target,
    cuda_engine_from_onnx,
    engine_from_onnx,
    openvino_engine_from_onnx,
    openvino_precision,
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
    return resolve_target(
        target, [(backend, partial(_refusal, bundle, refuse)) for backend, refuse in backends]
    )


def _refusal(bundle: Bundle, refuse: Refuse, target: Target) -> str | None:
    if reason := refuse(target):
        return reason
    if target.backend.startswith("tensorrt") and not (bundle.root / engines_path(target)).is_dir():
        return (
            f"'{bundle.root}' has no engines for {target.backend}: "
            f"`sdrt build {bundle.root} --target {target}` makes them"
        )
    return None


def open_engine(bundle: Bundle, name: str, target: str | Target = "auto") -> Engine:
    """The component called `name`, ready to run on `target`; its files are verified."""
    component = bundle.component(name)
    target = resolve(bundle, target).target
    if target.backend == "tensorrt" or target.backend == "tensorrt-rtx":
        from sdrt.targets.plans import open_plan

        return open_plan(bundle.root, component, target.backend)
    model, records = onnx_for(bundle, component, target)
    path = bundle.root / model
    with verified_meanwhile(bundle.root, records):
        match target.backend:
            case "cuda":
                return cuda_engine_from_onnx(path, name=name)
            case "openvino":
                precision = openvino_precision(target)
                return openvino_engine_from_onnx(path, precision=precision, name=name)
            case _:
                prepared = model != component.model
                return engine_from_onnx(path, name=name, prepared=prepared)


def open_reference(bundle: Bundle, name: str) -> Engine:
    """The component as it was exported, on the CPU in float32: the oracle of all others."""
    component = bundle.component(name)
    with verified_meanwhile(bundle.root, component.files):
        return engine_from_onnx(bundle.root / component.model, name=name)


def onnx_for(
    bundle: Bundle, component: Component, target: Target
) -> tuple[str, Sequence[FileRecord]]:
    """The graph that a target runs, and all its files: its own where one was built for it."""
    if target.backend == "cpu":
        built: BuiltGraph | None = prepared_graph_of(bundle.root, component)
    else:
        built = HalfGraph.of(bundle.root, target.backend, component)
    if built is not None:
        return built.model, built.files
    return component.model, component.files


def engines_path(target: Target) -> str:
    """The folder of a bundle for what was built for a backend."""
    return f"{ENGINES}/{target.backend}"
