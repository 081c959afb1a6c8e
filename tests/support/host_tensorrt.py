"""TensorRT on the simulated CUDA: its runtime, engines and contexts, whose network is a function.

As lazy and as strict as the real one may be: weights arrive on the legacy stream, and objects need
the device's turn, a right order of destruction, and memory of the GPU.
"""
# ruff: noqa: N802 - the names are TensorRT's

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from types import SimpleNamespace
from typing import Any, TypeAlias, TypeVar, cast
from weakref import proxy

import numpy as np

from sdrt_engines import Array, Signature, TensorSpec, shape_at
from sdrt_engines.shape_profiles import Profile
from sdrt_engines.tensorrt_library import ErrorLog
from support.cuda_streams import Code
from support.host_cuda import GARBAGE, LEGACY, HostCuda

Function: TypeAlias = Callable[[dict[str, Array]], Mapping[str, Array]]
SCRATCH = 1000  # bytes for a context of profile 0; twice as many for profile 1
WEIGHTS = 256  # bytes of an engine
PERSISTENT = 256  # bytes of a context
KERNELS = b"compiled"
USER_MANAGED = "user managed"
AS_USUAL = object()
Call = TypeVar("Call", bound=Callable[..., Any])


def binding(function: Call) -> Call:
    """A function of TensorRT's bindings: it needs the turn, and gives a planned answer first.

    Like compiled code it leaves no frame in a traceback that refers to its object.
    """
    name = function.__name__

    @wraps(function)
    def called(self: Any, *arguments: Any) -> Any:
        trt = self if isinstance(self, HostTensorRT) else self._trt
        trt.cuda.require_turn(name)
        answers = trt.answers.get(name)
        answer = answers.pop(0) if answers else AS_USUAL
        if answer is AS_USUAL:
            return function(self, *arguments)
        if answer is None:
            return None
        del self, arguments
        raise cast(BaseException, answer)

    return cast(Call, called)


@dataclass(eq=False)
class HostTensorRT:
    """The functions of the module `tensorrt` that the engines call, for one network."""

    cuda: HostCuda
    signature: Signature
    function: Function
    profiles: Sequence[Profile]
    errors: ErrorLog = field(default_factory=ErrorLog)
    answers: dict[str, list[Any]] = field(default_factory=dict)  # planned: None or an exception
    alive: dict[str, int] = field(default_factory=lambda: {"runtime": 0, "engine": 0, "context": 0})
    fails: bool = False  # every run is refused
    loaded: list[bytes] = field(default_factory=list)  # kernels that were compiled earlier

    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED=USER_MANAGED)
    CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")

    @binding
    def Runtime(self, logger: object) -> HostRuntime:
        return HostRuntime(self)

    def memory(self, size: int) -> int | None:
        address = self.cuda.allocate(size)
        if address is None:
            self.errors.add(f"Error Code 2: OutOfMemory (Requested size was {size} bytes.)")
        return address

    def destroyed(self, kind: str, before: str | None, address: int | None) -> None:
        """Checks the end of an object; AssertionErrors would be lost where Python calls this."""
        self.alive[kind] -= 1
        if before and self.alive[before]:
            self.cuda.faults.append(f"the {kind} was destroyed before its {before}")
        if not self.cuda.in_turn():
            self.cuda.faults.append(f"the {kind} was destroyed outside of the turn")
        if address is not None:
            self.cuda.streams[LEGACY].pending.clear()  # its own copies it waits for
            self.cuda.free(address)


class HostRuntime:
    def __init__(self, trt: HostTensorRT) -> None:
        self._trt = trt
        trt.alive["runtime"] += 1

    @binding
    def deserialize_cuda_engine(self, content: bytes) -> HostEngine | None:
        weights = self._trt.memory(WEIGHTS)
        return None if weights is None else HostEngine(self._trt, weights)

    def __del__(self) -> None:
        self._trt.destroyed("runtime", "engine", None)


class HostEngine:
    def __init__(self, trt: HostTensorRT, weights: int) -> None:
        self._trt, self._weights = trt, weights
        self._configured = False
        self.ready = ready = [False]  # the weights have arrived
        trt.alive["engine"] += 1
        trt.cuda.enqueue(LEGACY, lambda: ready.__setitem__(0, True), [weights])

    @binding
    def create_runtime_config(self) -> HostConfig:
        self._configured = True
        return HostConfig(self._trt, self)

    @binding
    def create_execution_context(self, how: object) -> HostContext | None:
        trt = self._trt
        if isinstance(how, HostConfig):
            trt.cuda.require(how.complete, "the configuration is incomplete")
        else:
            trt.cuda.require(not self._configured, "the context ignores the configuration")
            trt.cuda.require(how == USER_MANAGED, "the context has its own scratch memory")
        address = trt.memory(PERSISTENT)
        return None if address is None else HostContext(trt, (address, self._weights), self.ready)

    @binding
    def get_device_memory_size_for_profile_v2(self, profile: int) -> int:
        return SCRATCH * (1 + profile)

    def __del__(self) -> None:
        self._trt.destroyed("engine", "context", self._weights)


class HostConfig:
    def __init__(self, trt: HostTensorRT, engine: HostEngine) -> None:
        self._trt, self._engine = trt, engine  # the bindings keep it alive, too
        self.strategy = self.cache = self.cuda_graph_strategy = ""

    @property
    def complete(self) -> bool:
        return (self.strategy, self.cuda_graph_strategy) == (USER_MANAGED, "whole") and bool(
            self.cache
        )

    @binding
    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.strategy = strategy

    @binding
    def create_runtime_cache(self) -> HostCache:
        return HostCache(self._trt)

    @binding
    def set_runtime_cache(self, cache: HostCache) -> bool:
        self.cache = "set"
        return True


class HostCache:
    def __init__(self, trt: HostTensorRT) -> None:
        self._trt = trt

    @binding
    def deserialize(self, kernels: bytes) -> bool:
        self._trt.loaded.append(kernels)
        return True

    @binding
    def serialize(self) -> bytes:
        return KERNELS


class HostContext:
    """A context. A graph of it is good as long as no other shapes ran in between: a run copies what
    depends on the shapes to the GPU, and a launch does not.
    """

    def __init__(self, trt: HostTensorRT, memory: tuple[int, int], ready: list[bool]) -> None:
        self._trt, self._memory, self._ready = trt, memory, ready
        self._profile: int | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._scratch = (0, 0)
        self._set_up: set[object] = set()  # shapes that have run outside of a capture
        self._resident: object = None  # the shapes on the GPU
        trt.alive["context"] += 1

    @binding
    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self._trt.cuda.log.append("profile")
        self._profile, self._shapes = profile, {}
        return True

    @binding
    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        self._shapes[name] = tuple(shape)
        return True

    @binding
    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        return shape_at(next(s for s in self._trt.signature.outputs if s.name == name), self._sizes)

    @binding
    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    @binding
    def set_device_memory(self, address: int, size: int) -> None:
        self._scratch = address, size

    @binding
    def execute_async_v3(self, stream: int) -> bool:
        """Refuses what TensorRT refuses or mishandles: other shapes than the profile's, too little
        memory, early capture."""
        trt, cuda = self._trt, self._trt.cuda
        run = tuple(sorted(self._shapes.items()))
        capturing = cuda.capturing(stream)
        if (
            trt.fails
            or self._profile is None
            or not trt.profiles[self._profile].covers(self._shapes)
            or (capturing and run not in self._set_up)
            or not cuda.holds(self._scratch[0], SCRATCH * (1 + self._profile))
            or not all(cuda.holds(self._addresses[s.name], self._num_bytes(s)) for s in self._specs)
        ):
            trt.errors.add("Error Code 3: API Usage Error")
            return False
        self._set_up.add(run)
        shapes = {spec.name: self.get_tensor_shape(spec.name) for spec in self._specs}
        addresses, scratch = dict(self._addresses), self._scratch
        context = proxy(self)  # work does not keep it alive
        work = lambda: context._compute(run, capturing, shapes, addresses, scratch)  # noqa: E731
        uses = [*addresses.values(), scratch[0], *self._memory]
        if (code := cuda.enqueue(stream, work, uses)) != Code.cudaSuccess:
            trt.errors.add(f"Error Code 1: Cuda Runtime ({code.name})")
            return False
        cuda.log.append("capture" if capturing else "execute")
        return True

    def _compute(
        self,
        run: object,
        captured: bool,
        shapes: Mapping[str, tuple[int, ...]],
        addresses: Mapping[str, int],
        scratch: tuple[int, int],
    ) -> None:
        cuda = self._trt.cuda
        cuda.require(not captured or run == self._resident, "the graph is of other shapes")
        self._resident = run

        def view(spec: TensorSpec) -> Array:
            size = spec.dtype.itemsize * int(np.prod(shapes[spec.name]))
            cuda.require(cuda.holds(addresses[spec.name], size), f"'{spec.name}' is out of bounds")
            buffer = (ctypes.c_uint8 * size).from_address(addresses[spec.name])
            array: Array = np.ndarray(shapes[spec.name], spec.dtype, memoryview(buffer))
            return array

        ctypes.memset(scratch[0], GARBAGE, scratch[1])
        results = self._trt.function(
            {spec.name: view(spec).copy() for spec in self._trt.signature.inputs}
        )
        for spec in self._trt.signature.outputs:
            view(spec)[...] = results[spec.name] if self._ready[0] else GARBAGE

    @property
    def _specs(self) -> tuple[TensorSpec, ...]:
        return (*self._trt.signature.inputs, *self._trt.signature.outputs)

    @property
    def _sizes(self) -> dict[str, int]:
        return {
            dim: size
            for spec in self._trt.signature.inputs
            for dim, size in zip(spec.shape, self._shapes[spec.name], strict=True)
            if isinstance(dim, str)
        }

    def _num_bytes(self, spec: TensorSpec) -> int:
        return spec.dtype.itemsize * int(np.prod(self.get_tensor_shape(spec.name)))

    def __del__(self) -> None:
        graphs = self._trt.cuda.executables.values()
        if any(self._memory[0] in operation.uses for graph in graphs for operation in graph):
            self._trt.cuda.faults.append("a context was destroyed before its graphs")
        self._trt.destroyed("context", None, self._memory[0])
