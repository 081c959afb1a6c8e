"""Runs an open TensorRT plan.

One stream and one block of scratch memory serve all engines of a process, so their runs are
sequential. A run uploads what changed, computes, downloads, and waits once; a run whose outputs
stay on the device does not wait.

This code has not run on a GPU yet. The tests run it on a simulated one, whose stream does nothing
until it is waited for (`tests/support/host_gpu.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np

from sdrt_engines.cuda_device import Block, Device
from sdrt_engines.device_memory import Slot, Upload, bytes_of, graph_key, to_upload
from sdrt_engines.engine import Engine
from sdrt_engines.errors import EngineError
from sdrt_engines.log import log
from sdrt_engines.open_plan import OpenPlan
from sdrt_engines.recent import Recent
from sdrt_engines.shape_profiles import Profile, choose_profile
from sdrt_engines.tensor import Array, DeviceArray, Signature
from sdrt_engines.tensorrt_library import tensorrt_errors

MAX_GRAPHS = 8  # CUDA graphs kept per engine: users generate a few sizes again and again
MAX_FAILED_CAPTURES = 3  # in a row: then the engine is taken for one that cannot be captured


class PlanEngine(Engine):
    """A network on a GPU, for the shapes that its `profiles` cover. Made and closed in a turn."""

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
        self._graphs: Recent[Any] = Recent(MAX_GRAPHS, device.destroy)
        self._failed_captures = 0
        # The context of this run. Not a local variable: a traceback would keep it alive.
        self._context: Any = None
        device.join()

    def _pin(self, name: str, array: Array) -> Upload:
        return Upload(super()._pin(name, array))

    def _run(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array]:
        with self._device.turn, self._recovery():
            self._enqueue(values)
            results = {name: self._fetched(name) for name in outputs}
            self._device.wait()
        return results

    def _run_on_device(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array | DeviceArray]:
        with self._device.turn, self._recovery():
            self._enqueue(values)
            return {name: self._kept(name) for name in outputs}

    def _takes(self, array: DeviceArray) -> bool:
        return isinstance(array, Block) and array.device is self._device

    @contextmanager
    def _recovery(self) -> Iterator[None]:
        """Leaves a usable device and an EngineError if the run in the block fails."""
        with tensorrt_errors(lambda: f"{self.name}: TensorRT failed"):
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
        key = graph_key(profile, shapes, self._slots, self._device.scratch.address)
        self._compute(key, self._profiles[profile].static and not self._plan.captures_itself)

    def _bind(self, profile: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Sets the shapes and addresses of the profile's context; cheap if nothing changed."""
        self._context = self._plan.context(profile)
        for name, shape in shapes.items():
            self._check(self._context.set_input_shape(name, shape))
        self._reserve(self._plan.scratch_size(profile))
        for name, slot in self._slots.items():
            self._check(self._context.set_tensor_address(name, slot.address))
        scratch = self._device.scratch
        self._context.set_device_memory(scratch.address, scratch.capacity)

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

    def _compute(self, key: object, capture: bool) -> None:
        """Runs the context on the stream, as a CUDA graph if an earlier run was captured."""
        if key in self._graphs:
            self._device.launch(self._graphs.get_or_make(key, self._captured))
            return
        self._execute()
        if capture and self._failed_captures < MAX_FAILED_CAPTURES:
            self._capture(key)

    def _capture(self, key: object) -> None:
        """Captures this run for the next one like it.

        TensorRT needs one run before a capture, to finish its setup. As that run is on the stream
        already, nothing is lost if the capture fails: another library may have disturbed it.
        """
        try:
            self._graphs.get_or_make(key, self._captured)
            self._failed_captures = 0
        except EngineError as error:
            self._failed_captures += 1
            log().info("%s runs without a CUDA graph: %s", self.name, error)

    def _captured(self) -> Any:
        with tensorrt_errors(lambda: f"{self.name}: TensorRT failed"):
            return self._device.captured(self._execute)

    def _execute(self) -> None:
        self._check(self._context.execute_async_v3(self._device.stream))

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
        return tuple(self._context.get_tensor_shape(name))

    def _check(self, success: Any) -> None:
        if not success:
            raise self._plan.error("TensorRT refused the run")

    def _release(self) -> None:
        """Nothing here fails on a lost GPU, and each step is taken whatever another raises."""
        with self._device.turn, ExitStack() as steps:  # the last one first
            self._context = None
            steps.callback(self._device.leave)
            steps.callback(self._plan.close)
            steps.callback(self._release_slots)
            steps.callback(self._graphs.clear)
        self._device.free_orphans()

    def _release_slots(self) -> None:
        for slot in self._slots.values():
            slot.release()
