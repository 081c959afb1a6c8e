"""The contract of a backend, and of the files that a bundle offers it for one network.

Each backend is one frozen value at the end of its own file; `backends.py` lists them all. No other
code asks for a backend's name: whatever differs between backends is a field here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

from sdrt_engines.engine import Engine
from sdrt_engines.shape_profiles import Profile
from sdrt_engines.tensor import Signature

# The files that a backend runs. Half-precision and prepared graphs are built for one backend by
# `sdrt build`; without one, the backend runs the network as exported.
Runs: TypeAlias = Literal["network", "half graph", "prepared graph", "plans"]

INT8: Final = "int8"  # a precision: of a graph that several backends run, which `sdrt build` makes


class Settings(Protocol):
    """The settings after the backend's name in a target."""

    @property
    def architectures(self) -> tuple[str, ...]: ...

    @property
    def precision(self) -> str | None: ...


@dataclass(frozen=True)
class PlanFile:
    """A plan in a bundle, and the machines that it was built for."""

    path: Path
    profiles: Sequence[Profile]
    precision: str  # of its computation
    library: str  # "tensorrt_rtx"
    library_version: str
    architectures: tuple[str, ...]  # empty: the library's own choice
    fault: str | None  # why it does not belong to this network, or None
    damage: Callable[[], str | None]  # why the file has changed; reads all of it
    kernels: Path | None = None  # a folder for kernels compiled from it, outside the bundle


@dataclass(frozen=True)
class Source:
    """The files that a bundle offers a backend for one network."""

    name: str  # begins error messages
    signature: Signature
    network: Path  # the ONNX file as exported
    precision: str  # of the computation: "fp32"
    own_graph: Path | None = None  # the ONNX file that was built for this backend
    plans: Sequence[PlanFile] = ()  # newest first, those for other machines included
    remedy: str = ""  # how to build what is missing

    @property
    def graph(self) -> Path:
        """The backend's own graph if one was built, else the network."""
        return self.own_graph or self.network


@dataclass(frozen=True)
class MemoryUse:
    """The memory that a backend takes, as multiples of what a network holds: its weights in the
    precision of the computation, and its largest arrays for one row. Measured by `bench/memory.py`.
    """

    opening: float  # weights, at the peak of opening
    weights: float  # weights, once it has run
    feature_maps: float  # largest feature maps in a run
    scores: float  # largest attention matrices in a run; 0: never whole
    fuses: bool = False  # attention: only what it cannot fuse has whole matrices
    # Weights of convolutions that are stored in half precision, at the peak of opening.
    widened: float = 0


@dataclass(frozen=True)
class Backend:
    """A library that runs networks, on one kind of device."""

    name: str  # "tensorrt-rtx", as targets begin
    packages: tuple[str, ...]  # distributions that contain it; any one is enough
    refusal: Callable[[Settings], str | None]  # why it does not open here, with a remedy, or None
    # Takes a number of threads, which a backend that is not `on_cpu` ignores. EngineError if it
    # does not open.
    open: Callable[[Source, Settings, int | None], Engine]
    runs: Runs
    on_cpu: bool = False  # it computes on threads of the CPU
    opens_during_runs: bool = True  # a network may open while another one runs
    num_threads: int | None = None  # used by "auto"; None: the library's choice
    precision: str | None = None  # used by "auto"; None: the default
    precisions: tuple[str, ...] = ()  # chosen at run time, the default first; empty: the files' own
    architectures: tuple[str, ...] = ()  # that plans can be built for
    memory: MemoryUse | None = None  # None: unknown

    def chosen_precision(self, target: Settings) -> str | None:
        """The precision of the target if it is chosen at run time, else None."""
        return target.precision or next(iter(self.precisions), None)
