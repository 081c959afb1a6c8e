"""Where an engine runs: `cpu`, `cuda`, `tensorrt-rtx:sm86,sm89`, or `auto`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

from sdrt_engines.errors import TargetError, did_you_mean
from sdrt_engines.onnxruntime_cpu import cpu_refusal

Backend: TypeAlias = Literal["cpu", "openvino", "cuda", "tensorrt", "tensorrt-rtx"]

# The GPU architectures that an engine can be built for, where it is built for one.
ARCHITECTURES: dict[Backend, tuple[str, ...]] = {
    "tensorrt": ("sm75", "sm80", "sm86", "sm87", "sm89", "sm90", "sm100", "sm120", "sm121"),
    "tensorrt-rtx": ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121"),
}


@dataclass(frozen=True)
class Target:
    """A backend, and the GPU architectures to build for where it is not this machine's own."""

    backend: Backend
    architectures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.backend not in get_args(Backend):
            known = ("auto", *get_args(Backend))
            raise TargetError(
                f"unknown target '{self.backend}': {did_you_mean(self.backend, known)}"
            )
        known = ARCHITECTURES.get(self.backend, ())
        if self.architectures and not known:
            raise TargetError(
                f"target '{self}': {self.backend} is not built for an architecture: "
                f"write '{self.backend}'"
            )
        for architecture in self.architectures:
            if architecture not in known:
                raise TargetError(
                    f"target '{self}': {self.backend} knows no '{architecture}': "
                    f"{did_you_mean(architecture, known)}"
                )
            if self.architectures.count(architecture) > 1:
                raise TargetError(f"target '{self}': '{architecture}' stands there twice")

    @classmethod
    def parse(cls, text: str) -> Target:
        """The target that `text` names; `str(target)` writes it. TargetError when it is none."""
        backend, colon, architectures = text.partition(":")
        return cls(cast(Backend, backend), tuple(architectures.split(",")) if colon else ())

    def __str__(self) -> str:
        return ":".join(filter(None, (self.backend, ",".join(self.architectures))))


@dataclass(frozen=True)
class Refusal:
    """A target that does not open here, and why."""

    target: Target
    reason: str


@dataclass(frozen=True)
class Resolution:
    """The target that opens, and those that were tried before it."""

    target: Target
    refusals: tuple[Refusal, ...] = ()


# Says why a target cannot open on this machine, or None when it can.
Refuse: TypeAlias = Callable[[Target], str | None]


def _not_built_yet(target: Target) -> str:
    return f"target '{target.backend}' is not built yet in this version of sdrt: use 'cpu'"


# Fastest first. A backend that is added fills in its line here, and `Bundle.open_engine` opens it.
BACKENDS: tuple[tuple[Backend, Refuse], ...] = (
    ("tensorrt", _not_built_yet),
    ("tensorrt-rtx", _not_built_yet),
    ("cuda", _not_built_yet),
    ("openvino", _not_built_yet),
    ("cpu", lambda target: cpu_refusal()),
)


def resolve_target(
    target: str | Target, backends: Sequence[tuple[Backend, Refuse]] = BACKENDS
) -> Resolution:
    """The target that will be used: for `"auto"` the fastest that opens here, with all refusals.

    TargetError when an explicit target does not open (nothing takes its place), or when none does.
    """
    if target == "auto":
        return _fastest(backends)
    target = Target.parse(target) if isinstance(target, str) else target
    if reason := dict(backends)[target.backend](target):
        raise TargetError(reason)
    return Resolution(target)


def _fastest(backends: Sequence[tuple[Backend, Refuse]]) -> Resolution:
    refusals: list[Refusal] = []
    for backend, refuse in backends:
        target = Target(backend)
        reason = refuse(target)
        if reason is None:
            return Resolution(target, tuple(refusals))
        refusals.append(Refusal(target, reason))
    reasons = "; ".join(f"{refusal.target}: {refusal.reason}" for refusal in refusals)
    raise TargetError(f"no target opens on this machine: {reasons}")
