"""A simulated GPU: a device, and engines on it, with CUDA and TensorRT on host memory."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from pathlib import Path

from sdrt_engines import Signature
from sdrt_engines.cuda_device import Device
from sdrt_engines.open_plan import OpenPlan
from sdrt_engines.plan_engine import PlanEngine
from sdrt_engines.shape_profiles import Profile
from support.cuda_streams import Code
from support.host_cuda import HostCuda
from support.host_tensorrt import Function, HostTensorRT


class OwnedLock:
    """A lock that knows if this thread holds it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None

    def acquire(self, blocking: bool = True) -> bool:
        if blocking and self.is_mine():
            raise AssertionError("this thread waits for its own turn")
        if not self._lock.acquire(blocking):
            return False
        self._owner = threading.get_ident()
        return True

    def release(self) -> None:
        self._owner = None
        self._lock.release()

    def is_mine(self) -> bool:
        return self._owner == threading.get_ident()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class HostGpu:
    """A device, and engines on it."""

    def __init__(self, capacity: int = 1 << 30) -> None:
        self.cuda = HostCuda(capacity)
        self.device = Device(self.cuda)
        assert isinstance(self.device.turn, type(threading.Lock()))
        self.lock = OwnedLock()
        self.device.turn = self.lock  # type: ignore[assignment]
        self.cuda.in_turn = self.lock.is_mine
        self.libraries: list[HostTensorRT] = []  # one for each plan
        self.engines: list[PlanEngine] = []

    def engine(
        self,
        signature: Signature,
        function: Function,
        profiles: Sequence[Profile],
        *,
        captures_itself: bool = False,
        kernels: Path | None = None,
        answers: dict[str, list[object]] | None = None,
    ) -> PlanEngine:
        """A plan with this network. `answers` are planned for calls of TensorRT's functions."""
        trt = HostTensorRT(self.cuda, signature, function, profiles, answers=answers or {})
        self.libraries.append(trt)
        with self.device.turn:
            plan = OpenPlan(
                trt,
                trt.errors,
                b"a plan",
                name="net",
                device=self.device,
                captures_itself=captures_itself,
                kernels=kernels,
            )
            self.engines.append(PlanEngine(signature, "net", profiles, plan, self.device))
        return self.engines[-1]

    def lose(self) -> None:
        """From now on every call of CUDA and every run fails."""
        self.cuda.lost = Code.cudaErrorIllegalAddress
        for stream in self.cuda.streams.values():
            stream.pending.clear()
        for graph in self.cuda.executables.values():
            graph.clear()
        for trt in self.libraries:
            trt.fails = True

    def done(self) -> list[str]:
        """The log since the last time."""
        log, self.cuda.log = self.cuda.log, []
        return log

    @property
    def captures(self) -> bool:
        return any(stream.capture for stream in self.cuda.streams.values())

    def assert_sound(self) -> None:
        """Nothing forbidden was done, and the stream is usable."""
        gc.collect()
        assert not self.cuda.faults, self.cuda.faults
        assert not self.captures
        assert self.cuda.graphs == {}

    def close(self) -> None:
        """Closes all engines, after which nothing may be left."""
        for engine in self.engines:
            engine.close()
        self.assert_empty()

    def assert_empty(self) -> None:
        """All engines are closed, and all blocks gone: no memory is left."""
        self.assert_sound()
        assert [trt.alive for trt in self.libraries if any(trt.alive.values())] == []
        assert not self.device.blocks.returned
        assert not self.device._uploading
        if self.cuda.lost:  # then CUDA frees nothing, but everything was given back once
            freed = [arguments for name, arguments in self.cuda.calls if name == "cudaFree"]
            assert sorted(freed) == sorted({*freed})
            assert {(address,) for address in self.cuda.memory} <= {*freed}
        else:
            assert self.cuda.memory == {}
            assert self.cuda.executables == {}
