"""The engine contract: one compiled network on one backend, arrays in, arrays out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, NoReturn, Self, TypeAlias, TypeVar

import numpy as np

from sdrt_engines.errors import EngineError, TensorError, did_you_mean, error_of_library
from sdrt_engines.forks import Inherited, keep_for_ever
from sdrt_engines.interruptible import interruptible, python_has_ended
from sdrt_engines.runs import Runs
from sdrt_engines.tensor import Array, DeviceArray, Signature, TensorSpec, shape_text

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Pinned:
    """An input that was checked and uploaded once. Valid for the engine that made it."""

    engine: Engine
    name: str
    shape: tuple[int, ...]
    value: Any  # how the backend holds it


Feed: TypeAlias = Array | DeviceArray | Pinned


class Engine(Inherited):
    """One network, ready to run. Either open or closed; usable from several threads. A forked
    process cannot run the engines that it inherits.

    A backend implements `_run`; `_run_on_device` and `_takes` if it computes on a device; `_pin`
    and `_release` if it owns resources. It receives only feeds that fit the signature, and is
    released only when no run is in progress.
    """

    library: ClassVar[str] = ""  # as messages name it
    blocks: ClassVar[bool] = False  # True if a run stays in a library for long: see `interruptible`

    def __init__(self, signature: Signature, name: str) -> None:
        super().__init__()
        self.signature = signature
        self.name = name  # begins every error message
        self._inputs = {spec.name: spec for spec in signature.inputs}
        self._outputs = {spec.name: spec for spec in signature.outputs}
        self._runs = Runs()
        self._is_inherited = False  # by a forked process

    def run(
        self, feeds: Mapping[str, Feed], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """The requested outputs (all if None), as arrays that belong to the caller.

        Raises TensorError for a wrong name, dtype or shape, before the backend sees it, and
        EngineError if the engine is closed or the backend fails. Can be interrupted by signals.
        """
        return self._in_progress(lambda: self._computed(self._run, feeds, outputs))

    def run_on_device(
        self, feeds: Mapping[str, Feed], outputs: Sequence[str] | None = None
    ) -> dict[str, Array | DeviceArray]:
        """Like `run`, but outputs stay on the device and may not have been computed yet.

        Engines on the same device use them directly; others copy them through host memory. On the
        CPU they are arrays.
        """
        return self._in_progress(lambda: self._computed(self._run_on_device, feeds, outputs))

    def pin(self, name: str, array: Array) -> Pinned:
        """A feed for many runs: checked, copied and uploaded once. Later changes have no effect."""

        def upload() -> Pinned:
            if name not in self._inputs:
                raise TensorError(
                    f"{self.name}: no input '{name}': {did_you_mean(name, self._inputs)}"
                )
            spec = self._inputs[name]
            if reason := spec.mismatch(array, {}):
                raise self._misfit("input", spec, array, reason)
            return Pinned(self, name, array.shape, self._translated(self._pin, name, array))

        return self._in_progress(upload)

    def close(self) -> None:
        """Releases everything after the runs in progress. Closing twice is harmless.

        A run that was interrupted twice is not waited for: it releases everything when it ends. Nor
        is any run when Python ends.
        """
        patience = 0 if python_has_ended() else None
        self._release_if(self._runs.close(patience))

    @property
    def closed(self) -> bool:
        return self._runs.closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} ({'closed' if self.closed else 'open'})>"

    def __reduce__(self) -> NoReturn:
        raise EngineError(f"{self.name}: an engine cannot be pickled: open it in each process")

    @abstractmethod
    def _run(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array]:
        """Computes `outputs`. Each value is an array, a result of `_pin`, or a DeviceArray that the
        backend `_takes`; `sizes` are the symbolic dimensions of this run."""

    def _run_on_device(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array | DeviceArray]:
        """Like `_run`, but outputs stay on the device."""
        return {**self._run(values, outputs, sizes)}

    def _takes(self, array: DeviceArray) -> bool:
        """True if the backend can read the array on its device."""
        return False

    def _pin(self, name: str, array: Array) -> Any:
        """The value that `_run` takes in place of `array`: by default a private copy in memory."""
        copy = np.array(array, order="C")
        copy.flags.writeable = False
        return copy

    def _release(self) -> None:
        """Releases what the backend owns. Called once."""

    def _computed(
        self,
        run: Callable[[dict[str, Any], Sequence[str], dict[str, int]], dict[str, T]],
        feeds: Mapping[str, Feed],
        outputs: Sequence[str] | None,
    ) -> dict[str, T]:
        sizes: dict[str, int] = {}
        values = self._checked(feeds, sizes)
        results = self._translated(run, values, self._wanted(outputs), sizes)
        self._check_outputs(results)
        return results

    def _translated(self, call: Callable[..., T], *arguments: Any) -> T:
        """The result of the backend's `call`; whatever its library raises is an EngineError."""
        try:
            return call(*arguments)
        except BaseException as error:
            failure = f"{self.name}: {self.library or type(self).__name__} failed unexpectedly"
            raise error_of_library(error, failure, "use another target, or report this") from error

    def _in_progress(self, compute: Callable[[], T]) -> T:
        """The result of `compute`; the engine stays open meanwhile."""
        run = object()

        def counted() -> T:
            try:
                if not self._runs.begin(run):
                    raise self._closed_error()
                return compute()
            finally:
                self._release_if(self._runs.end(run))

        if self.blocks:
            return interruptible(counted, when_left=lambda: self._runs.leave(run))
        return counted()

    def _release_if(self, unused: bool) -> None:
        if unused:
            self._translated(self._release)

    def _closed_error(self) -> EngineError:
        if self._is_inherited:
            return EngineError(
                f"{self.name}: this engine was opened before this process was forked: open it again"
            )
        return EngineError(f"{self.name}: this engine is closed: open it again to run it")

    def _begin_in_child(self) -> None:
        keep_for_ever(self)  # as nothing that its library holds may be freed here
        self._is_inherited = not self.closed
        self._runs = Runs(closed=True)

    def _checked(self, feeds: Mapping[str, Feed], sizes: dict[str, int]) -> dict[str, Any]:
        """The values for `_run`. Part of every denoising step: about 1 µs per tensor."""
        if feeds.keys() != self._inputs.keys():
            raise self._wrong_names(feeds)
        values: dict[str, Any] = {}
        for name, spec in self._inputs.items():
            feed = feeds[name]
            if isinstance(feed, Pinned):
                reason = self._pinned_mismatch(feed, spec, sizes)
                values[name] = feed.value
            else:
                reason = spec.mismatch(feed, sizes)
                values[name] = feed
            if reason:
                raise self._misfit("input", spec, feed, reason)
            if isinstance(feed, DeviceArray) and not self._takes(feed):
                values[name] = feed.numpy()
        return values

    def _check_outputs(self, results: Mapping[str, Any]) -> None:
        """TensorError for an output of another type or shape than the signature's: a graph may
        declare one and compute another."""
        for name, result in results.items():
            spec = self._outputs[name]
            if reason := spec.mismatch(result, {}):
                raise self._misfit("output", spec, result, f"{reason}. Export the network again")

    def _pinned_mismatch(
        self, pinned: Pinned, spec: TensorSpec, sizes: dict[str, int]
    ) -> str | None:
        if pinned.engine is not self or pinned.name != spec.name:
            return f"it was pinned as '{pinned.name}' of {pinned.engine.name}: pin it here"
        return spec.shape_mismatch(pinned.shape, sizes)

    def _wanted(self, outputs: Sequence[str] | None) -> Sequence[str]:
        if outputs is None:
            return tuple(self._outputs)
        if not outputs:
            raise TensorError(f"{self.name}: no output requested: leave it out to get all of them")
        for name in outputs:
            if name not in self._outputs:
                raise TensorError(
                    f"{self.name}: no output '{name}': {did_you_mean(name, self._outputs)}"
                )
        return outputs

    def _wrong_names(self, feeds: Mapping[str, object]) -> TensorError:
        missing = [spec for spec in self.signature.inputs if spec.name not in feeds]
        for name in feeds:
            if name not in self._inputs:
                near = did_you_mean(name, [spec.name for spec in missing] or self._inputs)
                return TensorError(f"{self.name}: no input '{name}': {near}")
        wanted = ", ".join(f"'{spec.name}' {spec}" for spec in missing)
        return TensorError(f"{self.name}: missing input {wanted}: feed every input")

    def _misfit(self, role: str, spec: TensorSpec, got: object, reason: str) -> TensorError:
        return TensorError(
            f"{self.name}: {role} '{spec.name}' is {_text(got)}, expected {spec}: {reason}"
        )


def _text(value: object) -> str:
    if isinstance(value, np.ndarray | DeviceArray):
        return f"{value.dtype} {shape_text(value.shape)}"
    if isinstance(value, Pinned):
        return f"a pinned array {shape_text(value.shape)}"
    return f"a {type(value).__name__}"
