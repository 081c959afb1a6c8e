"""The contract of a builder, which turns a bundle's networks into the files of a backend.

Each building module ends with its builders, frozen values; `builders.py` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from sdrt.bundle.folder import Bundle
from sdrt_engines import Backend, Target
from sdrt_export.options import Report
from sdrt_export.precision.policy import HalfType


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build; `Builder.takes` lists those that a builder accepts."""

    components: tuple[str, ...] = ()  # names of networks; empty: all
    precision: HalfType | None = None  # None: fp16, if the builder takes a precision
    shapes: tuple[str, ...] = ()  # as `ImageShapes.parse` reads them; empty: the model's own size
    batch: str = "1"  # as `Range.parse` reads it
    chunks: int = 1  # of tokens, the most that a prompt may take
    prune: bool = False  # remove other plans of these networks for the target
    prompts: tuple[str, ...] = ()  # that int8 is calibrated on; empty: a list of sdrt's own

    @property
    def half(self) -> HalfType:
        return self.precision or "fp16"

    @property
    def given(self) -> frozenset[str]:
        """The names of the options that differ from the default."""
        return frozenset(
            field.name for field in fields(self) if getattr(self, field.name) != field.default
        )


@dataclass(frozen=True)
class Builder:
    """Builds the files of one backend, in one of its precisions if it has several."""

    backend: Backend
    takes: frozenset[str]  # the `BuildOptions` that it accepts
    require: Callable[[Target], object]  # BuildError or EngineError if this machine cannot build
    build: Callable[[Bundle, Target, BuildOptions, Report], list[Path]]  # the new paths
    precision: str | None = None  # of the target; None: the backend's default

    @property
    def target(self) -> Target:
        """The target that it builds for, without architectures."""
        return Target(self.backend.name, precision=self.precision)

    def refusal(self, options: BuildOptions) -> str | None:
        """The reason why it does not accept these options, or None."""
        unused = options.given - self.takes
        if "prompts" in unused:
            return f"target {self.target} takes no prompts: --calibrate is for --precision int8"
        if "precision" in unused:
            computes_in = self.precision or "float32"
            return f"target {self.target} computes in {computes_in}: leave out --precision"
        if unused:
            return (
                f"target {self.target} runs every shape with one graph: leave out --shapes, "
                "--batch, --chunks and --prune"
            )
        return None
