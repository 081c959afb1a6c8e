"""The place where an engine runs: `cpu`, `openvino:bf16`, `tensorrt-rtx:sm86,sm89`, or `auto`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from sdrt_engines.backend import Backend, Source
from sdrt_engines.backends import BACKENDS
from sdrt_engines.engine import Engine
from sdrt_engines.errors import (
    SdrtError,
    TargetError,
    TensorError,
    did_you_mean,
    error_of_library,
    quoted,
)
from sdrt_engines.log import log
from sdrt_engines.threads import require_num_threads

Backends: TypeAlias = Sequence[Backend]  # in the order in which "auto" tries them

_BY_NAME = {backend.name: backend for backend in BACKENDS}
_ALIASES: Mapping[str, str | tuple[str, ...]] = {  # what other programs call them
    "gpu": "cuda",
    "nvidia": "cuda",
    "cudaexecutionprovider": "cuda",
    "ort": ("cpu", "cuda"),
    "onnx": ("cpu", "cuda"),
    "onnxruntime": ("cpu", "cuda"),
    "cpuexecutionprovider": "cpu",
    "ov": "openvino",
    "intel": "openvino",
    "openvinoexecutionprovider": "openvino",
    "trt": "tensorrt",
    "tensorrtexecutionprovider": "tensorrt",
    "rtx": "tensorrt-rtx",
    "trt-rtx": "tensorrt-rtx",
    "tensorrtrtx": "tensorrt-rtx",
    "nvtensorrtrtxexecutionprovider": "tensorrt-rtx",
}


@dataclass(frozen=True)
class Target:
    """A backend by its name, with optional settings: a precision, or architectures to build for.

    `tensorrt-rtx:sm86,sm89` is built for these GPU architectures instead of this machine's own.
    `openvino:bf16` computes in bfloat16: twice as fast if the CPU supports it, but the image
    changes slightly. `openvino` alone computes in float32.
    """

    backend: str
    architectures: tuple[str, ...] = ()
    precision: str | None = None  # None: the backend's default, or the graph's own

    def __post_init__(self) -> None:
        if self.backend not in _BY_NAME:
            raise TargetError(
                f"unknown target {quoted(self.backend)}: {_known_target(self.backend)}"
            )
        backend = _BY_NAME[self.backend]
        if self.precision is not None:
            self._require_known(self.precision, backend.precisions)
        if self.architectures and not backend.architectures:
            raise TargetError(
                f"target '{self}': {self.backend} takes nothing after a colon: "
                f"write '{self.backend}'"
            )
        for architecture in self.architectures:
            self._require_known(architecture, backend.architectures)
            if self.architectures.count(architecture) > 1:
                raise TargetError(f"target '{self}': '{architecture}' is listed twice")

    def _require_known(self, word: str, known: Sequence[str]) -> None:
        if word not in known:
            raise TargetError(
                f"target '{self}': {self.backend} does not know '{word}': "
                f"{did_you_mean(word, known)}"
            )

    @classmethod
    def parse(cls, text: str) -> Target:
        """The target written as `text`, the inverse of `str`. TargetError if it is unknown."""
        if not isinstance(text, str):
            raise TargetError(f"target: got {quoted(text)}, {did_you_mean('', _names())}")
        name, colon, details = text.partition(":")
        if colon and name in _BY_NAME and _BY_NAME[name].precisions:
            return cls(name, precision=details)
        return cls(name, tuple(details.split(",")) if colon else ())

    def __str__(self) -> str:
        words = filter(None, (*self.architectures, self.precision))
        return ":".join(filter(None, (self.backend, ",".join(words))))


def backend_of(target: Target) -> Backend:
    """The backend that the target names."""
    return _BY_NAME[target.backend]


def variants_of(backend: Backend) -> tuple[Target, ...]:
    """Its targets, one per precision that is chosen at run time, the default first."""
    others = (Target(backend.name, precision=other) for other in backend.precisions[1:])
    return Target(backend.name), *others


def _known_target(name: str) -> str:
    """A suggestion to replace an unknown backend's name."""
    if name == "auto":
        return f"'auto' is the first that opens, name one of {', '.join(sorted(_BY_NAME))}"
    return did_you_mean(name, _names(), _ALIASES)


def _names() -> tuple[str, ...]:
    return "auto", *sorted(_BY_NAME)


@dataclass(frozen=True)
class Refusal:
    """A target that does not open here or failed while running, with the reason."""

    target: Target
    reason: str


@dataclass(frozen=True)
class Resolution:
    """The target that opens, those that were tried before it, and those that failed while running.

    `str` shows what ran, and what failed first: `cpu (after openvino: unet: …)`.
    """

    target: Target
    refusals: tuple[Refusal, ...] = ()
    failures: tuple[Refusal, ...] = ()
    others: Backends = field(default=(), repr=False, compare=False)  # that "auto" would try next
    num_threads: int | None = None  # for targets on the CPU; None: the library's choice

    def after(self, error: SdrtError) -> Resolution:
        """The next target of "auto" after this one failed with `error` while it opened or ran.

        The reason is kept and logged. `error` itself is raised if no target can replace this one:
        it was named, it is the last one, or the fed tensors are wrong.
        """
        if isinstance(error, TensorError):
            raise error
        failures = (*self.failures, Refusal(self.target, str(error)))
        try:
            found = _fastest(self.others)
        except TargetError:
            raise error from None
        log().warning("target %s failed, continuing with %s: %s", self.target, found.target, error)
        return replace(found, refusals=self.refusals + found.refusals, failures=failures)

    def __str__(self) -> str:
        failed = "; ".join(f"{failure.target}: {failure.reason}" for failure in self.failures)
        return f"{self.target} (after {failed})" if failed else str(self.target)


def refusal_of(backend: Backend, target: Target) -> str | None:
    """The reason why the target does not open here, with a remedy, or None.

    A broken library may raise anything; other targets must not suffer from it.
    """
    try:
        return backend.refusal(target)
    except BaseException as error:
        failure = f"the library of {target} fails"
        return str(error_of_library(error, failure, f"reinstall {backend.packages[0]}"))


def resolve_target(
    target: str | Target, backends: Backends = BACKENDS, *, num_threads: int | None = None
) -> Resolution:
    """The target that will be used: for `"auto"` the first that opens here, with all refusals.

    TargetError if a named target does not open (it is never replaced) or cannot use `num_threads`,
    or if no target opens. EngineError for an invalid number of threads.
    """
    require_num_threads(num_threads)
    if isinstance(target, str) and target == "auto":
        return _fastest(_with_threads(backends, num_threads))
    target = target if isinstance(target, Target) else Target.parse(target)
    backend = next(backend for backend in backends if backend.name == target.backend)
    if num_threads is not None and not backend.on_cpu:
        raise TargetError(
            f"num_threads: got {num_threads}, but target '{target}' does not compute on threads of "
            "the CPU: leave it out"
        )
    if reason := refusal_of(backend, target):
        raise TargetError(reason)
    return Resolution(target, num_threads=num_threads)


def open_source(source: Source, target: Target, num_threads: int | None = None) -> Engine:
    """The network of a source, ready to run on the target; EngineError if it does not open."""
    try:
        return backend_of(target).open(source, target, num_threads)
    except BaseException as error:
        failure = f"{source.name}: target {target} does not open"
        raise error_of_library(error, failure, "name another target, or report this") from error


def _with_threads(backends: Backends, num_threads: int | None) -> Backends:
    """The backends with the caller's number of threads, if one was given."""
    if num_threads is None:
        return backends
    return [replace(backend, num_threads=num_threads) for backend in backends]


def _fastest(backends: Backends) -> Resolution:
    refusals: list[Refusal] = []
    for index, backend in enumerate(backends):
        target = Target(backend.name, precision=backend.precision)
        reason = refusal_of(backend, target)
        if reason is None:
            others = backends[index + 1 :]
            return Resolution(
                target, tuple(refusals), others=others, num_threads=backend.num_threads
            )
        log().info("target %s does not open: %s", target, reason)
        refusals.append(Refusal(target, reason))
    reasons = "; ".join(f"{refusal.target}: {refusal.reason}" for refusal in refusals)
    raise TargetError(f"no target opens on this machine: {reasons}")
