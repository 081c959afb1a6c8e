"""Where an engine runs: `cpu`, `openvino:bf16`, `tensorrt-rtx:sm86,sm89`, or `auto`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args

from sdrt_engines.errors import SdrtError, TargetError, TensorError, did_you_mean
from sdrt_engines.onnxruntime_cpu import cpu_refusal
from sdrt_engines.onnxruntime_cuda import cuda_refusal
from sdrt_engines.openvino_cpu import OpenVinoPrecision, openvino_refusal
from sdrt_engines.tensorrt_plan import tensorrt_refusal

if TYPE_CHECKING:
    from logging import Logger

Backend: TypeAlias = Literal["cpu", "openvino", "cuda", "tensorrt", "tensorrt-rtx"]

# The GPU architectures that an engine can be built for, where it is built for one.
ARCHITECTURES: dict[Backend, tuple[str, ...]] = {
    "tensorrt": ("sm75", "sm80", "sm86", "sm87", "sm89", "sm90", "sm100", "sm120", "sm121"),
    "tensorrt-rtx": ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121"),
}


# What a backend can compute in, where it is chosen at run time; the first unless another is named.
PRECISIONS: dict[Backend, tuple[str, ...]] = {"openvino": ("fp32", "bf16")}


@dataclass(frozen=True)
class Target:
    """A backend, and how it differs from what it is without more words.

    `tensorrt-rtx:sm86,sm89` is built for these GPU architectures instead of this machine's own.
    `openvino:bf16` computes in bfloat16, twice as fast where the CPU can, and no longer the same
    picture to the last digit; `openvino` alone computes in float32.
    """

    backend: Backend
    architectures: tuple[str, ...] = ()
    precision: str | None = None  # None: the first of PRECISIONS, or what the graph was made in

    def __post_init__(self) -> None:
        if self.backend not in get_args(Backend):
            known = get_args(Backend)
            way_out = (
                f"it is whichever opens, name one of {', '.join(known)}"
                if str(self.backend) == "auto"
                else did_you_mean(self.backend, ("auto", *known))
            )
            raise TargetError(f"unknown target '{self.backend}': {way_out}")
        if self.precision is not None:
            self._require_known(self.precision, PRECISIONS.get(self.backend, ()))
        known = ARCHITECTURES.get(self.backend, ())
        if self.architectures and not known:
            raise TargetError(
                f"target '{self}': {self.backend} is not built for an architecture: "
                f"write '{self.backend}'"
            )
        for architecture in self.architectures:
            self._require_known(architecture, known)
            if self.architectures.count(architecture) > 1:
                raise TargetError(f"target '{self}': '{architecture}' stands there twice")

    def _require_known(self, word: str, known: Sequence[str]) -> None:
        if word not in known:
            raise TargetError(
                f"target '{self}': {self.backend} knows no '{word}': {did_you_mean(word, known)}"
            )

    @classmethod
    def parse(cls, text: str) -> Target:
        """The target that `text` names; `str(target)` writes it. TargetError when it is none."""
        name, colon, details = text.partition(":")
        backend = cast(Backend, name)
        if colon and backend in PRECISIONS:
            return cls(backend, precision=details)
        return cls(backend, tuple(details.split(",")) if colon else ())

    def __str__(self) -> str:
        words = filter(None, (*self.architectures, self.precision))
        return ":".join(filter(None, (self.backend, ",".join(words))))


@dataclass(frozen=True)
class Refusal:
    """A target that does not open here, or that failed while it ran, and why."""

    target: Target
    reason: str


# Says why a target cannot open on this machine, or None when it can.
Refuse: TypeAlias = Callable[[Target], str | None]
Backends: TypeAlias = Sequence[tuple[Backend, Refuse]]


@dataclass(frozen=True)
class Resolution:
    """The target that opens, those that were tried before it, and those that failed at work.

    `str` tells what ran, and what failed first: `cpu (after openvino: unet: …)`.
    """

    target: Target
    refusals: tuple[Refusal, ...] = ()
    failures: tuple[Refusal, ...] = ()
    others: Backends = field(default=(), repr=False, compare=False)  # what "auto" would try next

    def after(self, error: SdrtError) -> Resolution:
        """The next target under "auto", when this one failed with `error` while it opened or ran.

        The reason is kept and logged. `error` itself is raised where nothing can take this target's
        place: it was named, it is the last one, or the error lies in what was fed.
        """
        if isinstance(error, TensorError):
            raise error
        failures = (*self.failures, Refusal(self.target, str(error)))
        try:
            found = _fastest(self.others)
        except TargetError:
            raise error from None
        _log().warning("target %s failed, going on with %s: %s", self.target, found.target, error)
        return Resolution(found.target, self.refusals + found.refusals, failures, found.others)

    def __str__(self) -> str:
        failed = "; ".join(f"{failure.target}: {failure.reason}" for failure in self.failures)
        return f"{self.target} (after {failed})" if failed else str(self.target)


# Fastest first. A backend that is added fills in its line here, and `Bundle.open_engine` opens it.
BACKENDS: Backends = (
    ("tensorrt", lambda target: tensorrt_refusal("tensorrt")),
    ("tensorrt-rtx", lambda target: tensorrt_refusal("tensorrt-rtx")),
    ("cuda", lambda target: cuda_refusal()),
    ("openvino", lambda target: openvino_refusal(openvino_precision(target))),
    ("cpu", lambda target: cpu_refusal()),
)


def resolve_target(target: str | Target, backends: Backends = BACKENDS) -> Resolution:
    """The target that will be used: for `"auto"` the fastest that opens here, with all refusals.

    TargetError when an explicit target does not open (nothing takes its place), or when none does.
    """
    if target == "auto":
        return _fastest(backends)
    target = Target.parse(target) if isinstance(target, str) else target
    if reason := dict(backends)[target.backend](target):
        raise TargetError(reason)
    return Resolution(target)


def openvino_precision(target: Target) -> OpenVinoPrecision:
    """What OpenVINO computes in on `target`."""
    return cast(OpenVinoPrecision, target.precision or PRECISIONS["openvino"][0])


def _fastest(backends: Backends) -> Resolution:
    refusals: list[Refusal] = []
    for index, (backend, refuse) in enumerate(backends):
        target = Target(backend)
        reason = refuse(target)
        if reason is None:
            return Resolution(target, tuple(refusals), others=backends[index + 1 :])
        _log().info("target %s does not open: %s", target, reason)
        refusals.append(Refusal(target, reason))
    reasons = "; ".join(f"{refusal.target}: {refusal.reason}" for refusal in refusals)
    raise TargetError(f"no target opens on this machine: {reasons}")


def _log() -> Logger:
    from logging import getLogger  # `import sdrt` does without it

    return getLogger("sdrt")
