"""The memory of a GPU: given back, too little, and lost with the GPU."""

from __future__ import annotations

import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from sdrt_engines import DeviceArray, Engine, EngineError, OutOfMemoryError
from sdrt_engines.cuda_device import Device
from sdrt_engines.plan_set import Plan, PlanSet
from support.cuda_streams import Code
from support.host_cuda import HostCuda
from support.host_gpu import HostGpu
from support.host_tensorrt import SCRATCH
from support.scaled import (
    FLEXIBLE,
    SIGNATURE,
    T,
    check,
    feeds_of,
    network,
    profile,
    static_engine,
    x_of,
)

# --- memory


def test_closing_gives_all_memory_back(gpu: HostGpu) -> None:
    """Also scratch memory, with the last engine; not what is held."""
    engines = [static_engine(gpu) for _ in range(2)]
    held = engines[0].run_on_device({"x": x_of(2), "t": T})["y"]
    for engine in engines:
        engine.run(feeds_of(3))
    gc.collect()
    engines[0].close()
    assert gpu.device.scratch.capacity == 2 * SCRATCH
    check(engines[1])
    engines[1].close()
    assert [block.nbytes for block in gpu.cuda.memory.values()] == [256]
    assert isinstance(held, DeviceArray)
    np.testing.assert_array_equal(held.numpy(), x_of(2) * T)  # it belongs to its holder
    with pytest.raises(EngineError, match="this engine is closed"):
        engines[1].run({"x": x_of(2), "t": T})
    del held
    gpu.assert_empty()


def test_a_block_may_die_in_any_turn_after_the_last_engine(gpu: HostGpu) -> None:
    """The garbage collector must not wait for a turn of its own thread."""
    engine = static_engine(gpu)
    held = [engine.run_on_device({"x": x_of(2), "t": T})["y"] for _ in range(2)]
    engine.close()
    with gpu.device.turn:
        held.pop()
        assert len(gpu.cuda.memory) == 2
    gpu.device.free_orphans()
    assert len(gpu.cuda.memory) == 1
    held.pop()
    gpu.assert_empty()


def test_a_block_may_die_while_the_last_engine_closes(
    gpu: HostGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = static_engine(gpu)
    held = [engine.run_on_device(feeds_of(2))]
    leave = gpu.device.leave

    def leave_and_let_go() -> None:
        leave()
        held.clear()

    monkeypatch.setattr(gpu.device, "leave", leave_and_let_go)
    engine.close()
    gpu.assert_empty()


def test_blocks_die_in_many_threads(gpu: HostGpu) -> None:
    engine = gpu.engine(SIGNATURE, network, FLEXIBLE)

    def hold(seed: int) -> None:
        held = engine.run_on_device({"x": x_of(2, seed), "t": T}, ["y"])["y"]
        assert isinstance(held, DeviceArray)
        np.testing.assert_array_equal(held.numpy(), x_of(2, seed) * T)

    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(hold, range(200)))
    finally:
        sys.setswitchinterval(switch_interval)
    engine.close()
    gpu.assert_empty()


def test_what_is_pending_is_waited_for_before_memory_is_freed(gpu: HostGpu) -> None:
    """`cudaFree` is not documented to wait."""
    engine = gpu.engine(SIGNATURE, network, FLEXIBLE)
    small = engine.run_on_device({"x": x_of(2), "t": T})["y"]
    large = engine.run_on_device(feeds_of(16))["y"]
    assert isinstance(small, DeviceArray)
    np.testing.assert_array_equal(small.numpy(), x_of(2) * T)
    del small, large
    engine.close()
    gpu.assert_empty()


def test_idle_memory_makes_room_for_whatever_needs_it() -> None:
    gpu = HostGpu(capacity=20_000)
    one = gpu.engine(SIGNATURE, network, [profile("1..64")])
    held = [one.run_on_device(feeds_of(20)) for _ in range(3)]
    held.clear()
    held.append(one.run_on_device(feeds_of(20)))  # it takes some of what was given back
    held.clear()
    other = gpu.engine(SIGNATURE, network, [profile("1..64")])
    check(other, rows=30)
    gpu.close()


def test_another_network_s_scratch_memory_makes_room() -> None:
    gpu = HostGpu(capacity=15_000)
    wide = gpu.engine(SIGNATURE, network, [profile("1"), profile("2"), profile("3")])
    check(wide, rows=3)
    assert gpu.device.scratch.capacity == 3 * SCRATCH
    long = gpu.engine(SIGNATURE, network, [profile("1..64")])
    check(long, rows=33)
    assert gpu.device.scratch.capacity == SCRATCH
    long.close()
    check(wide, rows=3)
    gpu.close()


def test_no_memory_for_an_output_that_stays(gpu: HostGpu) -> None:
    """Scratch memory is freed in the middle of the run, and after the work that uses it."""
    engine = static_engine(gpu)
    for seed in range(3):
        gpu.cuda.plans["cudaMalloc"] = [Code.cudaErrorMemoryAllocation] if seed == 1 else []
        y = engine.run_on_device(feeds_of(2, seed), ["y"])["y"]
        assert isinstance(y, DeviceArray)
        np.testing.assert_array_equal(y.numpy(), network(feeds_of(2, seed))["y"])
        assert (gpu.device.scratch.capacity == 0) == (seed == 1)


def test_too_little_memory_is_reported_and_a_smaller_shape_runs() -> None:
    """The memory reserved for the large shape is free again."""
    gpu = HostGpu(capacity=4500)
    engine = gpu.engine(SIGNATURE, network, [profile("1..64")])
    with pytest.raises(
        OutOfMemoryError, match="cudaErrorMemoryAllocation: take a smaller size or batch"
    ):
        engine.run(feeds_of(60))
    check(engine, rows=1)
    engine.close()
    gpu.assert_empty()


def test_a_handled_lack_of_memory_is_not_left_for_other_libraries(gpu: HostGpu) -> None:
    engine = static_engine(gpu)
    gpu.cuda.plans["cudaMalloc"] = [Code.cudaErrorMemoryAllocation]
    check(engine)
    assert gpu.cuda.last_error == Code.cudaSuccess


# --- a lost GPU


def test_engines_of_a_lost_gpu_close(gpu: HostGpu) -> None:
    engines = [static_engine(gpu) for _ in range(2)]
    for engine in engines:
        check(engine)
    held = engines[0].run_on_device({"x": x_of(2), "t": T})["y"]
    gpu.lose()
    assert isinstance(held, DeviceArray)
    for use in (held.numpy, lambda: engines[0].run(feeds_of(2))):
        with pytest.raises(EngineError):
            use()
    with pytest.raises(EngineError, match="CUDA failed: cudaErrorIllegalAddress"):
        engines[1].run({"x": held, "t": T})
    for engine in engines:
        engine.close()
    del held
    gpu.assert_empty()


def test_the_first_error_is_the_one_that_counts(gpu: HostGpu) -> None:
    """Waiting for what is under way fails, too, once the GPU is lost."""
    engine = static_engine(gpu)
    pinned = engine.pin("t", T)
    gpu.cuda.plans["cudaMemcpyAsync"] = [Code.cudaErrorInvalidValue]
    gpu.cuda.plans["cudaStreamSynchronize"] = [Code.cudaErrorIllegalAddress]
    with pytest.raises(EngineError, match="CUDA failed: cudaErrorInvalidValue"):
        engine.run({"x": x_of(2), "t": pinned})
    np.testing.assert_array_equal(engine.run({"x": x_of(2), "t": pinned})["y"], x_of(2) * T)


def test_a_lost_gpu_is_reported_at_the_opening(gpu: HostGpu) -> None:
    gpu.lose()
    with pytest.raises(EngineError, match="CUDA failed: cudaErrorIllegalAddress"):
        static_engine(gpu)
    gpu.assert_empty()


def test_a_closed_engine_is_gone_though_an_error_refers_to_it(gpu: HostGpu) -> None:
    """Its memory is needed by the target that is tried next, while the error is being handled."""
    engine = static_engine(gpu)
    gpu.libraries[0].answers["execute_async_v3"] = [None]
    try:
        engine.run(feeds_of(2))
    except EngineError:
        engine.close()
        gpu.assert_empty()
    else:
        pytest.fail("the run did not fail")


def test_a_plan_set_closes_each_plan_whatever_another_raises(gpu: HostGpu) -> None:
    engines = [gpu.engine(SIGNATURE, network, [profile(rows)]) for rows in "23"]
    plans = [Plan(engine._profiles, partial(Engine.__enter__, engine)) for engine in engines]
    plan_set = PlanSet(SIGNATURE, "net", plans)
    check(plan_set, rows=2)
    check(plan_set, rows=3)
    engines[0]._release = lambda: 1 / 0  # type: ignore[method-assign, assignment]
    with pytest.raises(EngineError, match="ZeroDivisionError"):
        plan_set.close()
    assert gpu.libraries[1].alive["engine"] == 0
    del engines[0]._release
    engines[0]._release()


# --- threads


def test_plans_open_close_and_run_in_many_threads(gpu: HostGpu) -> None:
    shared = static_engine(gpu)

    def use(seed: int) -> None:
        check(shared, 2 + seed % 2, seed)
        own = static_engine(gpu)
        check(own, 2 + seed % 2, seed)
        check(own, 2 + seed % 2, seed)
        own.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, range(24)))
    shared.close()
    gpu.assert_empty()


def test_another_device_s_block_goes_through_the_host(gpu: HostGpu) -> None:
    other = HostGpu()
    y = static_engine(other).run_on_device({"x": x_of(2), "t": T})["y"]
    got = static_engine(gpu).run({"x": y, "t": T})["y"]
    np.testing.assert_array_equal(got, x_of(2) * T * T)


def test_the_device_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from sdrt_engines import cuda_device

    made: list[Device] = []

    def slow(cuda: object) -> Device:
        made.append(Device(HostCuda()))
        threading.Event().wait(0.02)
        return made[-1]

    monkeypatch.setattr(cuda_device, "Device", slow)
    monkeypatch.setattr(cuda_device, "_cuda", lambda: None)
    cuda_device._device.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: cuda_device.shared_device(), range(4)))
    assert set(map(id, found)) == {id(made[0])}
    made[0].process += 1  # it is another process now: a fork
    with pytest.raises(EngineError, match="CUDA was used before this process was forked"):
        cuda_device.shared_device()
    cuda_device._device.cache_clear()
