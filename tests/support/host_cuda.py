"""CUDA's runtime on host memory, as lazy and as strict as a real one may be.

Nothing on a stream happens until it is waited for, so anything read, freed or overwritten too early
gives wrong numbers; new memory contains garbage. What CUDA forbids or leaves undefined, and any use
outside of the device's turn, is an entry in `faults` and an AssertionError.
"""
# ruff: noqa: N802, N815 - the names are CUDA's

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial, wraps
from inspect import signature
from threading import RLock, get_ident
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import numpy as np

from sdrt_engines import Array
from support.cuda_streams import Capture, Code, Operation, Stream, Work

Call = TypeVar("Call", bound=Callable[..., Any])
GARBAGE = 0xA5
LEGACY = 0  # the handle of the legacy stream


def call(function: Call) -> Call:
    """A function of CUDA: safe in threads; fails as planned, and always once the GPU is lost."""
    name = function.__name__
    num_values = str(signature(function).return_annotation).count(",")

    @wraps(function)
    def called(self: HostCuda, *arguments: Any) -> tuple[Any, ...]:
        with self.lock:
            self.calls.append((name, arguments))
            code = self.planned(name)
            if self.lost or code:
                result: tuple[Any, ...] = (code or self.lost, *([None] * num_values))
            else:
                result = function(self, *arguments)
            self.last_error = result[0] or self.last_error
            return result

    return cast(Call, called)


@dataclass(eq=False)
class HostCuda:
    """The functions of `cuda.bindings.runtime` that the engines call, with a log."""

    capacity: int = 1 << 30
    cudaStreamNonBlocking = 1
    cudaMemcpyKind = SimpleNamespace(
        cudaMemcpyHostToDevice="up", cudaMemcpyDeviceToHost="down", cudaMemcpyDeviceToDevice="over"
    )
    cudaStreamCaptureMode = SimpleNamespace(
        cudaStreamCaptureModeGlobal="global",
        cudaStreamCaptureModeThreadLocal="thread",
        cudaStreamCaptureModeRelaxed="relaxed",
    )
    log: list[str] = field(default_factory=list)
    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    memory: dict[int, Array] = field(default_factory=dict)
    graphs: dict[int, list[Operation]] = field(default_factory=dict)  # captured
    executables: dict[int, list[Operation]] = field(default_factory=dict)  # instantiated
    streams: dict[int, Stream] = field(default_factory=lambda: {LEGACY: Stream(blocking=True)})
    lost: Code = Code.cudaSuccess  # the error of every call after the loss of the GPU
    last_error: Code = Code.cudaSuccess
    plans: dict[str, list[Code]] = field(default_factory=dict)  # answers of the next calls
    in_turn: Callable[[], bool] = lambda: True
    lock: RLock = field(default_factory=RLock)
    _handle: int = 100

    @call
    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Code, int]:
        self.streams[handle := self._next()] = Stream(blocking=flags != self.cudaStreamNonBlocking)
        return Code.cudaSuccess, handle

    @call
    def cudaMalloc(self, size: int) -> tuple[Code, int | None]:
        self.require_turn("cudaMalloc")
        if self._is_unsafe():
            return Code.cudaErrorStreamCaptureUnsupported, None
        address = self.allocate(size)
        return (Code.cudaSuccess if address else Code.cudaErrorMemoryAllocation), address

    @call
    def cudaFree(self, address: int) -> tuple[Code]:
        self.require_turn("cudaFree")
        if self._is_unsafe():
            return (Code.cudaErrorStreamCaptureUnsupported,)
        self.free(address)
        return (Code.cudaSuccess,)

    @call
    def cudaMemcpyAsync(
        self, target: int, source: int, size: int, kind: str, stream: int
    ) -> tuple[Code]:
        self.require_turn("cudaMemcpyAsync")
        on_device = {"up": [target], "down": [source], "over": [target, source]}[kind]
        for address in on_device:
            self.require(self.holds(address, size), f"a copy {kind} at {address} is out of bounds")
        self.log.append(kind)
        return (self.enqueue(stream, partial(ctypes.memmove, target, source, size), on_device),)

    @call
    def cudaStreamSynchronize(self, stream: int) -> tuple[Code]:
        self.require_turn("cudaStreamSynchronize")
        self.log.append("wait")
        if self._invalidate([self.streams[stream]]):
            return (Code.cudaErrorStreamCaptureUnsupported,)
        self._work(stream)
        return (Code.cudaSuccess,)

    @call
    def cudaDeviceSynchronize(self) -> tuple[Code]:
        self.require_turn("cudaDeviceSynchronize")
        self.log.append("settle")
        return (self.wait_for_all(),)

    @call
    def cudaStreamBeginCapture(self, stream: int, mode: str) -> tuple[Code]:
        self.require_turn("cudaStreamBeginCapture")
        self.require(stream != LEGACY, "the legacy stream cannot capture")
        self.require(self.streams[stream].capture is None, "the stream captures already")
        self.streams[stream].capture = Capture(mode)
        return (Code.cudaSuccess,)

    @call
    def cudaStreamEndCapture(self, stream: int) -> tuple[Code, int | None]:
        self.require_turn("cudaStreamEndCapture")
        capture = self.streams[stream].capture
        if capture is None:
            return Code.cudaErrorIllegalState, None
        if capture.mode != "relaxed" and capture.thread != get_ident():
            capture.invalid = True
            return Code.cudaErrorStreamCaptureWrongThread, None
        self.streams[stream].capture = None
        if capture.invalid:
            return Code.cudaErrorStreamCaptureInvalidated, None
        self.graphs[handle := self._next()] = capture.operations
        return Code.cudaSuccess, handle

    @call
    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Code, int]:
        self.require(graph in self.graphs, f"no graph {graph}")
        handle = self._next()
        self.executables[handle] = [Operation(o.work, o.uses, handle) for o in self.graphs[graph]]
        return Code.cudaSuccess, handle

    @call
    def cudaGraphDestroy(self, graph: int) -> tuple[Code]:
        self.require(self.graphs.pop(graph, None) is not None, f"no graph {graph} to destroy")
        return (Code.cudaSuccess,)

    @call
    def cudaGraphExecDestroy(self, graph: int) -> tuple[Code]:
        self.require_turn("cudaGraphExecDestroy")
        pending = any(o.graph == graph for s in self.streams.values() for o in s.pending)
        self.require(not pending, "a graph is destroyed before it has run")
        self.require(self.executables.pop(graph, None) is not None, f"no graph {graph} to destroy")
        return (Code.cudaSuccess,)

    @call
    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[Code]:
        self.require_turn("cudaGraphLaunch")
        self.require(graph in self.executables, f"no graph {graph} to launch")
        self.require(self.streams[stream].capture is None, "a launch on a stream that captures")
        self.log.append("launch")
        self.streams[stream].pending.extend(self.executables[graph])
        return (Code.cudaSuccess,)

    def cudaGetLastError(self) -> tuple[Code]:
        code, self.last_error = self.last_error, Code.cudaSuccess
        return (code,)

    # --- what other code of this process does

    def use_legacy_stream(self) -> None:
        """As `cudaMemcpy` does: it waits for the legacy stream, and so for all blocking streams."""
        with self.lock:
            blocking = [stream for stream in self.streams.values() if stream.blocking]
            if not self._invalidate(blocking):
                self._work(LEGACY)

    def wait_for_all(self) -> Code:
        """As `cudaDeviceSynchronize`: invalid while any stream captures."""
        with self.lock:
            if self._invalidate(self.streams.values()):
                return Code.cudaErrorStreamCaptureUnsupported
            for stream in self.streams:
                self._work(stream)
            return Code.cudaSuccess

    def allocate(self, size: int) -> int | None:
        with self.lock:
            if sum(block.nbytes for block in self.memory.values()) + size > self.capacity:
                return None
            block = np.full(size, GARBAGE, np.uint8)
            self.memory[block.ctypes.data] = block
            return int(block.ctypes.data)

    def free(self, address: int) -> None:
        with self.lock:
            pending = (o for s in self.streams.values() for o in s.pending)
            used = any(address in operation.uses for operation in pending)
            self.require(not used, "memory is freed that pending work uses")
            block = self.memory.pop(address, None)
            self.require(block is not None, f"{address} is freed twice, or was never allocated")

    def enqueue(self, stream: int, work: Work, uses: Iterable[int] = ()) -> Code:
        """Puts work on a stream, or into the graph that it captures."""
        with self.lock:
            starts = tuple(s for a in uses for s, b in self.memory.items() if s <= a < s + b.nbytes)
            capture = self.streams[stream].capture
            if capture is None:
                self.streams[stream].pending.append(Operation(work, starts))
            elif capture.invalid:
                return Code.cudaErrorStreamCaptureInvalidated
            else:
                capture.operations.append(Operation(work, starts))
            return Code.cudaSuccess

    def capturing(self, stream: int) -> bool:
        return self.streams[stream].capture is not None

    def holds(self, address: int, size: int) -> bool:
        return any(
            start <= address and address + size <= start + block.nbytes
            for start, block in self.memory.items()
        )

    def require(self, condition: bool, fault: str) -> None:
        if not condition:
            self.faults.append(fault)
            raise AssertionError(fault)

    def require_turn(self, name: str) -> None:
        self.require(self.in_turn(), f"{name} outside of the turn")

    def planned(self, name: str) -> Code:
        """The next answer that a test planned for this function: an error, or success."""
        answers = self.plans.get(name)
        return answers.pop(0) if answers else Code.cudaSuccess

    def _next(self) -> int:
        self._handle += 1
        return self._handle

    def _is_unsafe(self) -> bool:
        """True if this thread may not allocate or free now; the capture is then invalid."""
        return self._invalidate(
            stream
            for stream in self.streams.values()
            if (capture := stream.capture)
            and (
                capture.mode == "global"
                or (capture.mode, capture.thread) == ("thread", get_ident())
            )
        )

    def _invalidate(self, streams: Iterable[Stream]) -> bool:
        """Ends the captures of these streams; True if there were any."""
        captures = [stream.capture for stream in streams if stream.capture]
        for capture in captures:
            capture.invalid = True
        return bool(captures)

    def _work(self, stream: int) -> None:
        """A blocking stream waits for the legacy stream, and that for all blocking ones."""
        handles = [stream]
        if self.streams[stream].blocking:
            handles = [handle for handle, other in self.streams.items() if other.blocking]
        for handle in handles:
            pending = self.streams[handle].pending
            while pending:
                pending[0].work()
                pending.pop(0)
