"""Runs an open TensorRT plan.

One stream and one block of scratch memory serve all engines of a process, so their runs are
sequential. A run uploads what changed, computes, downloads, and waits once; a run whose outputs
stay on the device does not wait.

This code has not run on a GPU yet. The tests run it on a simulated one, whose stream does nothing
until it is waited for (`tests/support/host_gpu.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import numpy as np

from sdrt_engines.cuda_device import Block, Device, checked
from sdrt_engines.device_memory import Slot, Upload, bytes_of, graph_key, to_upload
from sdrt_engines.engine import Engine
from sdrt_engines.errors import EngineError
from sdrt_engines.recent import Recent
from sdrt_engines.shape_profiles import Profile, choose_profile
from sdrt_engines.tensor import Array, DeviceArray, Signature

MAX_GRAPHS = 8  # CUDA graphs kept per engine: users generate a few sizes again and again


class OpenPlan(Protocol):
    """A plan that TensorRT has opened."""

    context: Any  # TensorRT's IExecutionContext, which takes its scratch memory from us
    captures_itself: bool  # as TensorRT-RTX does; otherwise we capture CUDA graphs

    def scratch_size(self, profile: int) -> int:
        """The bytes of scratch memory that runs of a profile need."""

    def close(self) -> None: ...


class PlanEngine(Engine):
    """A network on a GPU, for the shapes that its `profiles` cover."""

    library = "TensorRT"

    def __init__(
        self,
        signature: Signature,
        name: str,
        profiles: Sequence[Profile],
        plan: OpenPlan,
        device: Device,
    ) -> None:
        super().__init__(signature, name)
        self._plan, self._profiles, self._device = plan, profiles, device
        specs = (*signature.inputs, *signature.outputs)
        self._slots = {spec.name: device.slot() for spec in specs}
        self._graphs: Recent[Any] = Recent(MAX_GRAPHS, self._discard_graph)
        self._profile = 0  # that is set in the context

    def _pin(self, name: str, array: Array) -> Upload:
        return Upload(super()._pin(name, array))

    def _run(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array]:
        with self._turn():
            self._enqueue(values)
            results = {name: self._fetched(name) for name in outputs}
            self._device.wait()
        return results

    def _run_on_device(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array | DeviceArray]:
        with self._turn():
            self._enqueue(values)
            return {name: self._kept(name) for name in outputs}

    def _takes(self, array: DeviceArray) -> bool:
        return isinstance(array, Block)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._device.turn:
            try:
                yield
            except BaseException:
                with suppress(EngineError):
                    self._device.wait()  # pending copies still write into arrays about to be freed
                for slot in self._slots.values():
                    slot.content = None  # its contents are undefined
                raise

    def _enqueue(self, values: Mapping[str, Any]) -> None:
        """Puts a run on the stream: the uploads and the network."""
        shapes = {name: value.shape for name, value in values.items()}
        profile = choose_profile(self.name, self._profiles, shapes)
        self._bind(profile, shapes)
        for name, value in values.items():
            self._feed(self._slots[name], value)
        self._compute(graph_key(profile, shapes, self._slots, self._device.scratch.address))

    def _bind(self, profile: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Sets the context's profile, shapes and addresses; cheap if nothing changed."""
        context = self._plan.context
        if profile != self._profile:
            self._check(context.set_optimization_profile_async(profile, self._device.stream))
            self._profile = profile
        for name, shape in shapes.items():
            self._check(context.set_input_shape(name, shape))
        self._reserve(self._plan.scratch_size(profile))
        for name, slot in self._slots.items():
            self._check(context.set_tensor_address(name, slot.address))
        scratch = self._device.scratch
        context.set_device_memory(scratch.address, scratch.capacity)

    def _reserve(self, scratch_size: int) -> None:
        try:
            for spec in (*self.signature.inputs, *self.signature.outputs):
                self._slots[spec.name].reserve(bytes_of(spec.dtype, self._shape_of(spec.name)))
            self._device.scratch.reserve(scratch_size)
        except EngineError:  # smaller shapes may not need what was reserved
            self._release_slots()
            raise

    def _feed(self, slot: Slot, value: Array | Upload | Block) -> None:
        if isinstance(value, Block):  # a captured graph reads only its own addresses
            slot.content = None
            self._device.copy(value.address, slot.address, value.size)
        elif (array := to_upload(value, slot)) is not None:
            self._device.upload(array, slot.address)

    def _compute(self, key: object) -> None:
        """Runs the context on the stream; as one CUDA graph if shapes are fixed."""
        if self._plan.captures_itself or not self._profiles[self._profile].static:
            self._execute()
            return
        if key not in self._graphs:
            self._execute()  # not captured: TensorRT finishes its setup in the first run
        graph = self._graphs.get_or_make(key, self._captured)
        checked(self._device.cuda.cudaGraphLaunch(graph, self._device.stream))

    def _captured(self) -> Any:
        cuda, stream = self._device.cuda, self._device.stream
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(cuda.cudaStreamBeginCapture(stream, mode))
        try:
            self._execute()
        except EngineError:
            _, graph = cuda.cudaStreamEndCapture(stream)
            cuda.cudaGraphDestroy(graph)
            raise
        graph = checked(cuda.cudaStreamEndCapture(stream))
        try:
            return checked(cuda.cudaGraphInstantiate(graph, 0))
        finally:
            cuda.cudaGraphDestroy(graph)

    def _execute(self) -> None:
        self._check(self._plan.context.execute_async_v3(self._device.stream))

    def _fetched(self, name: str) -> Array:
        """An array that will hold the output once the stream has been waited for."""
        array = np.empty(self._shape_of(name), self._outputs[name].dtype)
        self._device.download(self._slots[name].address, array)
        return array

    def _kept(self, name: str) -> Block:
        """The output in its own memory: the next run overwrites the engine's."""
        block = Block(self._device, self._outputs[name].dtype, self._shape_of(name))
        self._device.copy(self._slots[name].address, block.address, block.size)
        return block

    def _shape_of(self, name: str) -> tuple[int, ...]:
        return tuple(self._plan.context.get_tensor_shape(name))

    def _check(self, success: Any) -> None:
        if not success:
            raise EngineError(f"{self.name}: TensorRT refused the run: its log says why")

    def _discard_graph(self, graph: Any) -> None:
        checked(self._device.cuda.cudaGraphExecDestroy(graph))

    def _release(self) -> None:
        with self._device.turn:
            self._device.wait()
            self._graphs.clear()
            self._release_slots()
            self._device.blocks.release()
        self._plan.close()

    def _release_slots(self) -> None:
        for slot in self._slots.values():
            slot.release()
