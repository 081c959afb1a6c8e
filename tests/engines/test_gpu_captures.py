"""CUDA graphs: captured, disturbed, interrupted."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from sdrt_engines import EngineError, TensorError
from sdrt_engines.plan_engine import MAX_FAILED_CAPTURES
from support.cuda_streams import Code
from support.host_cuda import HostCuda
from support.host_gpu import HostGpu
from support.interrupts import interrupted
from support.scaled import (
    FLEXIBLE,
    SIGNATURE,
    T,
    check,
    feeds_of,
    network,
    static_engine,
    x_of,
)

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


def test_a_disturbed_capture_loses_no_run(gpu: HostGpu, caplog: pytest.LogCaptureFixture) -> None:
    """The run goes on without a graph; the next one is captured."""
    caplog.set_level("INFO", "sdrt")
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
    assert caplog.messages == [
        "net runs without a CUDA graph: net: TensorRT refused the run: Error Code 1: Cuda Runtime "
        "(cudaErrorStreamCaptureInvalidated): build its plans again with `sdrt build`, or report "
        "this"
    ]


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


def test_an_interrupt_that_the_bindings_turned_into_another_error(gpu: HostGpu) -> None:
    engine = static_engine(gpu)
    error = RuntimeError("c++")
    error.__cause__ = KeyboardInterrupt()
    gpu.libraries[0].answers["execute_async_v3"] = [error]
    with pytest.raises(KeyboardInterrupt):
        engine.run(feeds_of(2))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("c++"), MemoryError()])
def test_a_run_that_raises(error: BaseException, gpu: HostGpu) -> None:
    """Exceptions of the bindings become EngineErrors, and Ctrl-C passes."""
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
        run = partial(engine.run, {"x": x_of(2), "t": engine.pin("t", T)})
        if not interrupted(run, lines):
            break
        assert not gpu.captures
        for _ in range(2):
            np.testing.assert_array_equal(run()["y"], x_of(2) * T)
        gpu.cuda.graphs.clear()  # that were made when the interrupt came: nobody knows of them
        known = engine._graphs._items.values()
        for graph in {*gpu.cuda.executables} - {*known}:
            del gpu.cuda.executables[graph]
        engine.close()
        assert not gpu.cuda.faults
        lines += 1
    assert lines > 200
    engine.close()


def test_shapes_outside_all_profiles_are_reported(gpu: HostGpu) -> None:
    engine = static_engine(gpu)
    with pytest.raises(
        TensorError, match=r"no profile of this engine covers x \(5, 4\), t \(5, 4\)"
    ):
        engine.run(feeds_of(5))
    with pytest.raises(TensorError, match="no profile"):
        engine.run_on_device(feeds_of(5))
    assert "execute" not in gpu.done()
