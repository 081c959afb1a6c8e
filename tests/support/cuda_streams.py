"""Streams of the simulated CUDA, and the codes of its errors."""
# ruff: noqa: N815 - the names are CUDA's

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from threading import get_ident
from typing import TypeAlias

Work: TypeAlias = Callable[[], object]


class Code(IntEnum):
    """Values of cudaError_t."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorIllegalState = 401
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901
    cudaErrorStreamCaptureImplicit = 906
    cudaErrorStreamCaptureWrongThread = 908


@dataclass(eq=False)
class Operation:
    """Work on a stream, and the addresses that it reads or writes."""

    work: Work
    uses: tuple[int, ...] = ()
    graph: int | None = None  # the executable graph that it belongs to


@dataclass(eq=False)
class Capture:
    mode: str
    thread: int = field(default_factory=get_ident)
    operations: list[Operation] = field(default_factory=list)
    invalid: bool = False


@dataclass(eq=False)
class Stream:
    blocking: bool
    pending: list[Operation] = field(default_factory=list)
    capture: Capture | None = None
