"""Faults of a GPU: no memory, its loss, disturbed captures, interrupts, other threads."""

from __future__ import annotations

import gc
import linecache
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from sdrt_engines import DeviceArray, Engine, EngineError, OutOfMemoryError, TensorError
from sdrt_engines.cuda_device import Device
from sdrt_engines.plan_engine import MAX_FAILED_CAPTURES, PlanEngine
from sdrt_engines.plan_set import Plan, PlanSet
from support.host_cuda import Code, HostCuda
from support.host_gpu import HostGpu
from support.host_tensorrt import KERNELS, SCRATCH, WEIGHTS
from support.scaled import FLEXIBLE, SIGNATURE, STATIC, T, feeds_of, network, profile, x_of

NO_MEMORY = Code.cudaErrorMemoryAllocation


@pytest.fixture
def gpu() -> Iterator[HostGpu]:
    gpu = HostGpu()
    yield gpu
    gpu.close()


def check(engine: PlanEngine | PlanSet, rows: int = 2, seed: int = 0) -> None:
    feeds = feeds_of(rows, seed)
    got = engine.run(feeds)
    for name, expected in network(feeds).items():
        np.testing.assert_array_equal(got[name], expected)


def static_engine(gpu: HostGpu) -> PlanEngine:
    return gpu.engine(SIGNATURE, network, STATIC)


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


def test_too_little_memory_is_reported_and_a_smaller_shape_runs() -> None:
    """The memory reserved for the large shape is free again."""
    gpu = HostGpu(capacity=5000)
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
    gpu.cuda.plans["cudaMalloc"] = [NO_MEMORY]
    check(engine)
    assert gpu.cuda.last_error == Code.cudaSuccess


# --- the opening of a plan


@pytest.mark.parametrize("call", ["deserialize_cuda_engine", "create_execution_context"])
def test_no_memory_for_a_plan_is_tried_again_without_idle_memory(call: str) -> None:
    gpu = HostGpu(capacity=9 * 256 + 2 * SCRATCH)
    first = static_engine(gpu)
    check(first, rows=3)
    held = first.run_on_device(feeds_of(3))
    del held
    gc.collect()
    room = sum(block.nbytes for block in gpu.cuda.memory.values())
    gpu.cuda.capacity = room + (0 if call == "deserialize_cuda_engine" else WEIGHTS)
    second = static_engine(gpu)
    gpu.cuda.capacity = 1 << 20
    check(second, rows=3)
    check(first, rows=3)
    for engine in (first, second):
        engine.close()
    gpu.assert_empty()


ANSWERS: dict[BaseException | None, str] = {
    None: "its log does not say why",
    RuntimeError("device lost"): "device lost",
    TypeError("factory function returned nullptr"): "factory function returned nullptr",
    RuntimeError("CUDA error 2: out of memory\nat x.cpp"): "out of memory at x.cpp",
    MemoryError("std::bad_alloc"): "out of memory",
}
PLAIN = ["Runtime", "deserialize_cuda_engine", "create_execution_context"]
RTX = [*PLAIN, "create_runtime_config", "create_runtime_cache"]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: repr(answer)[:20])
@pytest.mark.parametrize(
    ("call", "rtx"), [*((call, False) for call in PLAIN), *((call, True) for call in RTX)]
)
def test_a_plan_that_does_not_open(
    call: str, rtx: bool, answer: BaseException | None, gpu: HostGpu
) -> None:
    """One line, and nothing is left open."""
    no_memory = "memory" in ANSWERS[answer]
    with pytest.raises(EngineError) as caught:
        gpu.engine(
            SIGNATURE, network, STATIC, captures_itself=rtx, answers={call: [answer, answer]}
        )
    message = str(caught.value)
    assert message.startswith("net: TensorRT cannot ")
    assert ANSWERS[answer] in message
    assert "\n" not in message
    assert message.endswith(
        "other programs that use the GPU" if no_memory else "`sdrt build`, or report this"
    )
    assert isinstance(caught.value, OutOfMemoryError) == no_memory
    gpu.assert_empty()
    check(static_engine(gpu))


def test_no_memory_for_a_context_of_another_profile(gpu: HostGpu) -> None:
    """It is made during a run; the plan serves its other profiles on."""
    engine = static_engine(gpu)
    check(engine, rows=2)
    gpu.cuda.capacity = sum(block.nbytes for block in gpu.cuda.memory.values()) - SCRATCH
    with pytest.raises(OutOfMemoryError, match=r"^net: TensorRT cannot create the context: Error"):
        engine.run(feeds_of(3))
    gpu.cuda.capacity = 1 << 20
    check(engine, rows=2)
    check(engine, rows=3)
    engine.close()
    gpu.assert_empty()


@pytest.mark.parametrize("answer", [None, RuntimeError("lost")])
def test_a_profile_that_is_refused(answer: BaseException | None, gpu: HostGpu) -> None:
    engine = static_engine(gpu)
    gpu.libraries[0].answers["set_optimization_profile_async"] = [answer]
    with pytest.raises(EngineError, match=r"^net: TensorRT "):
        engine.run(feeds_of(3))
    check(engine, rows=3)


def test_weights_have_arrived_before_the_first_run(gpu: HostGpu) -> None:
    """They are copied on the legacy stream, for which a non-blocking stream does not wait."""
    check(static_engine(gpu))


def test_kernels_are_kept(gpu: HostGpu, tmp_path: Path) -> None:
    kernels = tmp_path / "sm89.kernels"
    for _ in range(2):
        engine = gpu.engine(SIGNATURE, network, STATIC, captures_itself=True, kernels=kernels)
        check(engine)
        engine.close()
        assert kernels.read_bytes().endswith(KERNELS)
    gpu.assert_empty()


@pytest.mark.parametrize("call", ["serialize", "deserialize"])
def test_kernels_that_cannot_be_kept_are_compiled_again(
    call: str, gpu: HostGpu, tmp_path: Path
) -> None:
    kernels = tmp_path / "sm89.kernels"
    broken: dict[str, list[object]] = {call: [RuntimeError("broken")]}
    for answers in ({}, broken):
        engine = gpu.engine(
            SIGNATURE,
            network,
            STATIC,
            captures_itself=True,
            kernels=kernels,
            answers=answers,
        )
        check(engine)
        engine.close()
    gpu.assert_empty()


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
    with pytest.raises(ZeroDivisionError):
        plan_set.close()
    assert gpu.libraries[1].alive["engine"] == 0
    del engines[0]._release
    engines[0]._release()


# --- captures


def test_the_stream_captures_while_other_libraries_use_the_legacy_stream(gpu: HostGpu) -> None:
    engine = static_engine(gpu)
    disturb(gpu, gpu.cuda.use_legacy_stream)
    check(engine)
    gpu.done()
    check(engine)
    assert "launch" in gpu.done()


def test_a_blocking_stream_could_not() -> None:
    """The simulated GPU is as strict as CUDA."""
    cuda = HostCuda()
    _, stream = cuda.cudaStreamCreateWithFlags(0)
    cuda.cudaStreamBeginCapture(stream, "thread")
    cuda.use_legacy_stream()
    assert cuda.cudaStreamEndCapture(stream) == (Code.cudaErrorStreamCaptureInvalidated, None)


def disturb(gpu: HostGpu, action: Callable[[], object]) -> None:
    """Does this in the middle of the next capture."""
    begin = gpu.cuda.cudaStreamBeginCapture

    def begin_and_act(stream: int, mode: str) -> tuple[Code]:
        gpu.cuda.cudaStreamBeginCapture = begin  # type: ignore[method-assign]
        result = begin(stream, mode)
        action()
        return result

    gpu.cuda.cudaStreamBeginCapture = begin_and_act  # type: ignore[method-assign]


def allocate_in_another_thread(gpu: HostGpu) -> None:
    in_turn, gpu.cuda.in_turn = gpu.cuda.in_turn, lambda: True  # it is another library
    with ThreadPoolExecutor(1) as pool:
        code, address = pool.submit(gpu.cuda.cudaMalloc, 256).result()
    assert address is not None
    gpu.cuda.free(address)
    gpu.cuda.in_turn = in_turn
    assert code == Code.cudaSuccess


def test_other_threads_may_allocate_during_a_capture(gpu: HostGpu) -> None:
    engine = static_engine(gpu)
    disturb(gpu, lambda: allocate_in_another_thread(gpu))
    check(engine)
    gpu.done()
    check(engine)
    assert "launch" in gpu.done()


def test_what_this_thread_allocates_during_a_capture_is_noticed(gpu: HostGpu) -> None:
    """A graph would not allocate it again."""
    engine = static_engine(gpu)
    disturb(gpu, lambda: gpu.cuda.cudaMalloc(256))
    check(engine)
    gpu.done()
    check(engine)
    assert "launch" not in gpu.done()


def test_a_disturbed_capture_loses_no_run(gpu: HostGpu) -> None:
    """The run goes on without a graph; the next one is captured."""
    engine = static_engine(gpu)
    disturb(gpu, gpu.cuda.wait_for_all)
    logs = []
    for seed in range(3):
        gpu.done()
        check(engine, seed=seed)
        assert not gpu.captures
        logs.append([word for word in gpu.done() if word in ("execute", "capture", "launch")])
    assert logs == [["execute"], ["execute", "capture"], ["launch"]]
    assert gpu.cuda.last_error == Code.cudaSuccess
    engine.close()
    gpu.assert_empty()


@pytest.mark.parametrize("call", ["cudaStreamBeginCapture", "cudaGraphInstantiate", None])
def test_an_engine_that_cannot_be_captured_runs_without_graphs(
    call: str | None, gpu: HostGpu
) -> None:
    engine = static_engine(gpu)
    for seed in range(MAX_FAILED_CAPTURES + 2):
        if call:
            gpu.cuda.plans[call] = [Code.cudaErrorIllegalState]
        else:
            disturb(gpu, gpu.cuda.wait_for_all)
        check(engine, seed=seed)
    begun = [name for name, _ in gpu.cuda.calls].count("cudaStreamBeginCapture")
    assert begun == MAX_FAILED_CAPTURES


def test_failed_captures_count_in_a_row_only(gpu: HostGpu) -> None:
    engine = static_engine(gpu)
    for round_ in range(2 * MAX_FAILED_CAPTURES):
        with gpu.device.turn:
            engine._graphs.clear()
        if round_ % 2:
            disturb(gpu, gpu.cuda.wait_for_all)
        check(engine, seed=round_)
    gpu.done()
    with gpu.device.turn:
        engine._graphs.clear()
    check(engine)
    assert "capture" in gpu.done()


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), RuntimeError("c++"), MemoryError(), SystemExit()]
)
def test_a_capture_ends_on_any_exception(error: BaseException, gpu: HostGpu) -> None:
    engine = static_engine(gpu)
    disturb(gpu, lambda: gpu.libraries[0].answers.update(execute_async_v3=[error]))
    if isinstance(error, Exception):
        check(engine)  # the run itself was complete
    else:
        with pytest.raises(type(error)):
            engine.run(feeds_of(2))
    gpu.assert_sound()
    check(engine, seed=1)
    check(engine, seed=2)
    engine.close()
    gpu.assert_empty()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("c++"), MemoryError()])
def test_a_run_that_raises(error: BaseException, gpu: HostGpu) -> None:
    """What the bindings raise is an EngineError, and Ctrl-C passes."""
    engine = gpu.engine(SIGNATURE, network, FLEXIBLE)
    pinned = engine.pin("t", T)
    gpu.libraries[0].answers["execute_async_v3"] = [error]
    expected = EngineError if isinstance(error, Exception) else KeyboardInterrupt
    with pytest.raises(expected, match=r"^net: TensorRT failed|^$"):
        engine.run({"x": x_of(2), "t": pinned})
    np.testing.assert_array_equal(engine.run({"x": x_of(2), "t": pinned})["y"], x_of(2) * T)


def test_graphs_of_other_engines_survive_moved_scratch_memory(gpu: HostGpu) -> None:
    """They name an address that is free then, or another's: they are captured again."""
    engines = [static_engine(gpu) for _ in range(2)]
    for rows, seed in ((2, 0), (2, 1), (3, 2), (2, 3), (2, 4), (3, 5)):
        for engine in engines:
            check(engine, rows, seed)
    for engine in engines:
        engine.close()
    gpu.assert_empty()


def test_with_and_without_guidance_in_turn(gpu: HostGpu) -> None:
    """A graph is launched after another profile ran: each profile has its own context."""
    engine = static_engine(gpu)
    check(engine, rows=3)
    for seed in range(6):
        check(engine, 2 + seed % 2, seed)
    gpu.done()
    check(engine, rows=2)
    assert "launch" in gpu.done()


# --- failed runs


def test_a_failed_run_leaves_no_copy_under_way(gpu: HostGpu) -> None:
    """The arrays that it would write to are gone."""
    engine = gpu.engine(SIGNATURE, network, FLEXIBLE)
    success = Code.cudaSuccess
    gpu.cuda.plans["cudaMemcpyAsync"] = [success] * 3 + [Code.cudaErrorInvalidValue]
    with pytest.raises(EngineError, match="CUDA failed: cudaErrorInvalidValue"):
        engine.run({"x": x_of(2), "t": T})
    assert not gpu.cuda.streams[gpu.device.stream].pending
    check(engine)


def test_after_a_failed_run_what_is_pinned_goes_up_again(gpu: HostGpu) -> None:
    engine = static_engine(gpu)
    pinned = engine.pin("t", T)
    gpu.libraries[0].fails = True
    with pytest.raises(
        EngineError, match=r"^net: TensorRT refused the run: Error Code 3: API Usage Error: build"
    ):
        engine.run({"x": x_of(2), "t": pinned})
    gpu.libraries[0].fails = False
    gpu.done()
    np.testing.assert_array_equal(engine.run({"x": x_of(2), "t": pinned})["y"], x_of(2) * T)
    assert gpu.done().count("up") == 2


def test_an_interrupt_at_any_line_of_a_run() -> None:
    """The stream is usable, the next run is right, and nothing is freed twice."""
    lines = 0
    while True:
        gpu = HostGpu()
        engine = static_engine(gpu)
        if not interrupted(partial(check, engine), lines):
            break
        assert not gpu.captures
        check(engine, seed=1)
        check(engine, seed=2)
        gpu.cuda.graphs.clear()  # that were made when the interrupt came: nobody knows of them
        known = engine._graphs._items.values()
        for graph in {*gpu.cuda.executables} - {*known}:
            del gpu.cuda.executables[graph]
        engine.close()
        assert not gpu.cuda.faults
        lines += 1
    assert lines > 200
    engine.close()


MODULES = ("plan_engine.py", "cuda_device.py", "open_plan.py", "device_memory.py")


def line_of(frame: FrameType) -> str:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno)


def interrupted(action: Callable[[], object], lines: int) -> bool:
    """Interrupts it after so many lines of our modules; False if it has fewer."""
    left = lines

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(MODULES):
            return None
        # CPython delivers no signal between a block and the release of its lock.
        if event == "line" and not line_of(frame).lstrip().startswith("with"):
            if not left:
                sys.settrace(None)
                raise KeyboardInterrupt
            left -= 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_shapes_outside_all_profiles_are_reported(gpu: HostGpu) -> None:
    engine = static_engine(gpu)
    with pytest.raises(
        TensorError, match=r"no profile of this engine covers x \(5, 4\), t \(5, 4\)"
    ):
        engine.run(feeds_of(5))
    with pytest.raises(TensorError, match="no profile"):
        engine.run_on_device(feeds_of(5))
    assert "execute" not in gpu.done()


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
    cuda_device._device.cache_clear()
    assert set(map(id, found)) == {id(made[0])}
