"""The engines of a bundle: which target and file each component runs as, opened on demand."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

import numpy as np

from sdrt import tensor_names as names
from sdrt.ask import Ask, Constant, Link
from sdrt.bundle.file_records import verified_meanwhile
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Component
from sdrt.bundle.unlinked import unlinked
from sdrt.targets.engine_memory import EngineMemory
from sdrt.targets.resolving import resolve
from sdrt.targets.runnable import runnable
from sdrt_engines import (
    Engine,
    EngineError,
    Pinned,
    Resolution,
    Signature,
    Target,
    engine_from_onnx,
    shape_at,
)
from sdrt_engines.forks import Inherited, keep_for_ever
from sdrt_engines.freed_memory import return_freed_memory
from sdrt_engines.interruptible import interruptible, turn_of
from sdrt_engines.log import log
from sdrt_engines.recent import Recent

NUM_ZEROS = 4  # sets of zero residuals kept on the device
PATIENCE = 30.0  # seconds for the runs of a target that failed


class Engines(Inherited):
    """Each component's engine, opened on first use, and its uploaded feeds. May be used from
    several threads. A forked process opens its own. `engines` replace the bundle's own, by
    component name. With `low_memory` each request runs stage by stage.
    """

    def __init__(
        self,
        bundle: Bundle,
        resolution: Resolution,
        engines: Mapping[str, Engine] | None = None,
        *,
        low_memory: bool = False,
    ) -> None:
        super().__init__()
        self.bundle = bundle
        self.ran_on = str(resolution)  # as in `Result.engine`
        self.low_memory = low_memory
        self.target, self._num_threads = resolution.target, resolution.num_threads
        self._stages = {
            name: _stage(name, component) for name, component in bundle.components.items()
        }
        self._given = dict(engines or {})
        self.max_rows: dict[tuple[str, int], int] = {}  # of a run, as memory has allowed
        self._closed = False
        self._open_nothing()

    def __getitem__(self, name: str) -> Engine:
        engine = None if self._closed else self._open.get(name)
        return engine or interruptible(lambda: self._loaded(name), waits=False)

    def _loaded(self, name: str) -> Engine:
        """Opens an engine, unless another thread does. It is kept even if its caller has stopped
        waiting, at a deadline for instance, as the next request needs it too."""
        with turn_of(self._opening[name]):
            engine = self._open.get(name)
            if engine is None and not self._closed:
                bundle, own = self.bundle.owner_of(name)
                network = runnable(bundle.root, bundle.component(own), self.target)
                engine = network.open(self._num_threads)
                self._keep(name, engine)
            if engine is None or self._closed:
                raise EngineError("this pipeline is closed: open it again to run it")
            return engine

    def _keep(self, name: str, engine: Engine) -> None:
        with self._changing:
            if not self._closed:
                self._open[name] = engine
                self.memory.opened(name)
                return
        engine.close()

    @contextmanager
    def running(self, ask: Ask) -> Iterator[float]:
        """Keeps the networks of an ask open in the block; the seconds that it took to open them.

        If a request runs by stage, it waits for its turn and closes the networks of other stages.
        """
        components = [link.component for link in ask.chain]
        with self.memory.turn(ask) as by_stage, self._in_use(components):
            start = time.perf_counter()
            if by_stage:
                self._close_other_stages(components[-1])
            for name in components:
                self[name]
            yield time.perf_counter() - start
            self.memory.ran(ask)

    @contextmanager
    def _in_use(self, components: list[str]) -> Iterator[None]:
        with self._changing:
            self._uses.update(components)
        try:
            yield
        finally:
            with self._changing:
                self._uses.subtract(components)

    def _close_other_stages(self, component: str) -> None:
        """Closes the networks that are not of this one's stage."""
        stage = self.memory.stage(component)
        others = self._open.keys() - self._given.keys()
        self.close_unused([name for name in others if self.memory.stage(name) != stage])

    def close_unused(self, names: Iterable[str]) -> None:
        """Closes those of these networks that no run uses. Their memory returns to the system."""
        with self._changing:
            closing = {
                name: self._open[name]
                for name in names
                if name in self._open and name not in self._given and not self._uses[name]
            }
            for name in closing:
                del self._open[name]
                self.memory.closed(name)
            self._forget_feeds(closing.values())
        if closing:
            with ExitStack() as stack:  # which closes all, even if one fails
                for engine in closing.values():
                    stack.callback(engine.close)
            return_freed_memory()

    def _forget_feeds(self, engines: Collection[Engine]) -> None:
        self._zeros.clear()
        for constant, pinned in list(self._uploads.items()):
            if any(feed.engine in engines for feed in pinned.values()):
                del self._uploads[constant]

    def work_on(self, ask: Ask) -> str:
        """The work that the caller of an ask waits for: `while 'unet' ran`."""
        for link in ask.chain:
            if link.component not in self._open:
                return f"while '{link.component}' was loaded"
        return f"while '{ask.chain[-1].component}' ran"

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

    def give_up(self) -> None:
        """Closes the engines of a target that failed. An error is logged, and a run that does not
        end is waited for a while only."""
        closing = threading.Thread(target=self._close_and_log, daemon=True)
        try:
            closing.start()
        except RuntimeError:  # there is no memory for a thread
            self._close_and_log()
            return
        closing.join(PATIENCE)
        if closing.is_alive():
            log().warning("target %s is still running: its memory is not free yet", self.target)

    def _close_and_log(self) -> None:
        try:
            self.close()
        except EngineError as error:
            log().warning("target %s failed when it was closed: %s", self.target, error)

    def _open_nothing(self) -> None:
        self._open = dict(self._given)
        self.memory = EngineMemory(
            self.bundle, self.target, frozenset(self._given), low_memory=self.low_memory
        )
        self._uploads: WeakKeyDictionary[Constant, Mapping[str, Pinned]] = WeakKeyDictionary()
        self._zeros: Recent[Mapping[str, Pinned]] = Recent(NUM_ZEROS)
        self._uses: Counter[str] = Counter()  # runs in progress, by network
        self._changing = threading.RLock()
        self._opening: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def _begin_in_child(self) -> None:
        keep_for_ever([*self._uploads.values()])  # on a GPU that the child cannot use
        keep_for_ever(self._zeros)
        self._open_nothing()


def _stage(name: str, component: Component) -> str:
    role = component.role.replace(" ", "_")
    return role if names.in_refiner(name) is None else f"refiner_{role}"


def residual_shapes(signature: Signature, sample: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shape of each residual that a network takes for a sample (R, C, h, w)."""
    dims = signature.input(names.SAMPLE).shape
    sizes = {dim: size for dim, size in zip(dims, sample, strict=True) if isinstance(dim, str)}
    return {
        spec.name: shape_at(spec, sizes)
        for spec in signature.inputs
        if names.is_residual(spec.name)
    }


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
