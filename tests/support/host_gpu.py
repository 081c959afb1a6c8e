"""A simulated GPU: CUDA's runtime and a TensorRT context on host memory.

It is as lazy as a real one may be: nothing on its stream happens until it is waited for, so
anything read, freed or overwritten too early gives wrong numbers. New memory contains garbage, and
an address outside of it is an error.
"""
# ruff: noqa: N802, N815 - the names are CUDA's

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from types import SimpleNamespace
from typing import TypeAlias

import numpy as np

from sdrt_engines import Array, Signature, TensorSpec, shape_at
from sdrt_engines.cuda_device import Device
from sdrt_engines.plan_engine import PlanEngine
from sdrt_engines.shape_profiles import Profile

Operation: TypeAlias = Callable[[], object]
Function: TypeAlias = Callable[[dict[str, Array]], Mapping[str, Array]]
SCRATCH = 1000  # bytes for a context of profile 0; twice as many for profile 1
GARBAGE = 0xA5


class Code(IntEnum):
    """Values of cudaError_t."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900


@dataclass
class HostCuda:
    """The functions of `cuda.bindings.runtime` that the engines call, with a log."""

    capacity: int = 1 << 30
    cudaMemcpyKind = SimpleNamespace(
        cudaMemcpyHostToDevice="up", cudaMemcpyDeviceToHost="down", cudaMemcpyDeviceToDevice="over"
    )
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread")
    log: list[str] = field(default_factory=list)
    memory: dict[int, Array] = field(default_factory=dict)
    graphs: dict[int, list[Operation]] = field(default_factory=dict)
    stream: list[Operation] = field(default_factory=list)
    capturing: list[Operation] | None = None
    failing_copy: int | None = None  # the number of the copy that fails, counted from now

    def cudaStreamCreate(self) -> tuple[Code, int]:
        return Code.cudaSuccess, 77

    def cudaMalloc(self, size: int) -> tuple[Code, int | None]:
        if self.capturing is not None:
            return Code.cudaErrorStreamCaptureUnsupported, None
        if sum(block.nbytes for block in self.memory.values()) + size > self.capacity:
            return Code.cudaErrorMemoryAllocation, None
        block = np.full(size, GARBAGE, np.uint8)
        self.memory[block.ctypes.data] = block
        return Code.cudaSuccess, block.ctypes.data

    def cudaFree(self, address: int) -> tuple[Code]:
        if self.capturing is not None:
            return (Code.cudaErrorStreamCaptureUnsupported,)
        self._work()  # like CUDA
        if self.memory.pop(address, None) is None:
            return (Code.cudaErrorInvalidValue,)
        return (Code.cudaSuccess,)

    def cudaMemcpyAsync(
        self, target: int, source: int, size: int, kind: str, stream: int
    ) -> tuple[Code]:
        if self.failing_copy is not None:
            self.failing_copy -= 1
            if not self.failing_copy:
                self.failing_copy = None
                return (Code.cudaErrorIllegalAddress,)
        on_device = {"up": [target], "down": [source], "over": [target, source]}[kind]
        if not all(self.holds(address, size) for address in on_device):
            return (Code.cudaErrorIllegalAddress,)
        self.log.append(kind)
        self.enqueue(partial(ctypes.memmove, target, source, size))
        return (Code.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Code]:
        self.log.append("wait")
        self._work()
        return (Code.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: int, mode: str) -> tuple[Code]:
        self.capturing = []
        return (Code.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Code, int]:
        assert self.capturing is not None
        return Code.cudaSuccess, self._kept(self.capturing)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Code, int]:
        return Code.cudaSuccess, self._kept(self.graphs[graph])

    def cudaGraphDestroy(self, graph: int) -> tuple[Code]:
        del self.graphs[graph]
        return (Code.cudaSuccess,)

    def cudaGraphExecDestroy(self, graph: int) -> tuple[Code]:
        return self.cudaGraphDestroy(graph)

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[Code]:
        self.log.append("launch")
        self.stream.extend(self.graphs[graph])
        return (Code.cudaSuccess,)

    def enqueue(self, operation: Operation) -> None:
        (self.stream if self.capturing is None else self.capturing).append(operation)

    def holds(self, address: int, size: int) -> bool:
        return any(
            start <= address and address + size <= start + block.nbytes
            for start, block in self.memory.items()
        )

    def _kept(self, operations: list[Operation]) -> int:
        self.capturing = None
        handle = max(self.graphs, default=0) + 1
        self.graphs[handle] = list(operations)
        return handle

    def _work(self) -> None:
        while self.stream:
            self.stream.pop(0)()


@dataclass
class HostContext:
    """A TensorRT context whose network is a Python function."""

    cuda: HostCuda
    signature: Signature
    function: Function
    fails: bool = False
    profile: int = 0
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    scratch: tuple[int, int] = (0, 0)
    ready: set[object] = field(default_factory=set)  # shapes that have run outside of a capture

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.cuda.log.append("profile")
        self.profile = profile
        self.shapes = {}
        return True

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name] if name in self.shapes else shape_at(self._spec(name), self._sizes)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_device_memory(self, address: int, size: int) -> None:
        self.scratch = address, size

    def execute_async_v3(self, stream: int) -> bool:
        """Refuses the errors that TensorRT refuses or mishandles: too little memory, early
        capture."""
        run = self.profile, *self.shapes.items()
        specs = (*self.signature.inputs, *self.signature.outputs)
        capturing = self.cuda.capturing is not None
        if (
            self.fails
            or (capturing and run not in self.ready)
            or not self.cuda.holds(self.scratch[0], SCRATCH * (1 + self.profile))
            or not all(self.cuda.holds(self.addresses[s.name], self._num_bytes(s)) for s in specs)
        ):
            return False
        self.ready.add(run)
        self.cuda.log.append("capture" if capturing else "execute")
        shapes = {spec.name: self.get_tensor_shape(spec.name) for spec in specs}
        addresses, scratch = dict(self.addresses), self.scratch
        self.cuda.enqueue(lambda: self._compute(shapes, addresses, scratch))
        return True

    def _compute(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        addresses: Mapping[str, int],
        scratch: tuple[int, int],
    ) -> None:
        def view(spec: TensorSpec) -> Array:
            size = spec.dtype.itemsize * int(np.prod(shapes[spec.name]))
            assert self.cuda.holds(addresses[spec.name], size), spec.name
            buffer = (ctypes.c_uint8 * size).from_address(addresses[spec.name])
            array: Array = np.ndarray(shapes[spec.name], spec.dtype, memoryview(buffer))
            return array

        ctypes.memset(scratch[0], GARBAGE, scratch[1])
        results = self.function({spec.name: view(spec).copy() for spec in self.signature.inputs})
        for spec in self.signature.outputs:
            view(spec)[...] = results[spec.name]

    @property
    def _sizes(self) -> dict[str, int]:
        return {
            dim: size
            for spec in self.signature.inputs
            for dim, size in zip(spec.shape, self.shapes[spec.name], strict=True)
            if isinstance(dim, str)
        }

    def _spec(self, name: str) -> TensorSpec:
        return next(s for s in self.signature.outputs if s.name == name)

    def _num_bytes(self, spec: TensorSpec) -> int:
        return spec.dtype.itemsize * int(np.prod(self.get_tensor_shape(spec.name)))


@dataclass
class HostPlan:
    """An open plan."""

    context: HostContext
    captures_itself: bool
    closed: bool = False

    def scratch_size(self, profile: int) -> int:
        return SCRATCH * (1 + profile)

    def close(self) -> None:
        self.closed = True


class HostGpu:
    """A device, and engines on it."""

    def __init__(self, capacity: int = 1 << 30) -> None:
        self.cuda = HostCuda(capacity)
        self.device = Device(self.cuda)
        self.plans: list[HostPlan] = []

    def engine(
        self,
        signature: Signature,
        function: Function,
        profiles: Sequence[Profile],
        *,
        captures_itself: bool = False,
    ) -> PlanEngine:
        context = HostContext(self.cuda, signature, function)
        self.plans.append(HostPlan(context, captures_itself))
        return PlanEngine(signature, "net", profiles, self.plans[-1], self.device)

    def done(self) -> list[str]:
        """The log since the last time."""
        log, self.cuda.log = self.cuda.log, []
        return log
