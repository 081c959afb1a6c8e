"""Plans that open, and plans that do not, on a simulated GPU."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from sdrt_engines import Engine, EngineError, OutOfMemoryError
from sdrt_engines.tensorrt_plan import LIBRARIES, TensorRT, engine_from_plan
from support.host_gpu import HostGpu
from support.host_tensorrt import KERNELS, SCRATCH, WEIGHTS, HostTensorRT
from support.scaled import (
    SIGNATURE,
    STATIC,
    check,
    feeds_of,
    network,
    static_engine,
)


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


@pytest.mark.parametrize("call", ["set_execution_context_allocation_strategy", "set_runtime_cache"])
def test_a_plan_that_cannot_be_configured(call: str, gpu: HostGpu) -> None:
    answers: dict[str, list[object]] = {call: [RuntimeError("lost")]}
    with pytest.raises(EngineError, match=r"^net: TensorRT cannot be configured: lost: build"):
        gpu.engine(SIGNATURE, network, STATIC, captures_itself=True, answers=answers)
    gpu.assert_empty()


def test_an_interrupt_while_a_plan_opens(gpu: HostGpu) -> None:
    for call in (*PLAIN, "set_optimization_profile_async"):
        with pytest.raises(KeyboardInterrupt) as caught:
            gpu.engine(SIGNATURE, network, STATIC, answers={call: [KeyboardInterrupt()]})
        gpu.assert_empty()
        del caught


def test_no_memory_for_a_context_of_another_profile(gpu: HostGpu) -> None:
    """It is made during a run; the plan serves its other profiles on."""
    engine = static_engine(gpu)
    check(engine, rows=2)
    gpu.cuda.capacity = sum(block.nbytes for block in gpu.cuda.memory.values()) - SCRATCH
    failure = r"^net: TensorRT cannot create the context: Error Code 2: OutOfMemory [^;]*$"
    with pytest.raises(OutOfMemoryError, match=failure):
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
    for earlier in ([], [KERNELS]):
        engine = gpu.engine(SIGNATURE, network, STATIC, captures_itself=True, kernels=kernels)
        check(engine)
        engine.close()
        assert gpu.libraries[-1].loaded == earlier
        assert kernels.read_bytes().endswith(KERNELS)
    gpu.assert_empty()


@pytest.mark.parametrize("call", ["serialize", "deserialize"])
def test_kernels_that_cannot_be_kept_are_compiled_again(
    call: str, gpu: HostGpu, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sdrt")
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
    assert caplog.messages == ["net keeps no compiled kernels: broken"] * (call == "serialize")
    gpu.assert_empty()


def test_an_error_has_the_log_of_its_own_run_only(gpu: HostGpu) -> None:
    engine = static_engine(gpu)
    gpu.libraries[0].errors.add("of long ago")
    gpu.libraries[0].fails = True
    with pytest.raises(EngineError, match=r"the run: Error Code 3: API Usage Error: build its"):
        engine.run(feeds_of(2))
    assert "of long ago" not in gpu.libraries[0].errors.text


# --- from a file, as a backend does


@pytest.fixture
def installed(gpu: HostGpu, monkeypatch: pytest.MonkeyPatch) -> HostTensorRT:
    """The library of this name is the simulated one."""
    trt = HostTensorRT(gpu.cuda, SIGNATURE, network, STATIC)
    gpu.libraries.append(trt)
    for name, value in {
        "import_tensorrt": lambda backend: trt,
        "tensorrt_log": lambda backend: trt.errors,
        "tensorrt_refusal": lambda backend: None,
        "gpu_architecture": lambda: "sm89",
        "shared_device": lambda: gpu.device,
    }.items():
        monkeypatch.setattr(f"sdrt_engines.tensorrt_plan.{name}", value)
    return trt


def opened(folder: Path, backend: TensorRT = "tensorrt-rtx") -> Engine:
    plan = folder / "net.plan"
    plan.write_bytes(b"a plan")
    return engine_from_plan(
        plan, name="net", backend=backend, signature=SIGNATURE, profiles=STATIC, kernels=folder
    )


@pytest.mark.parametrize("backend", LIBRARIES)
def test_a_plan_from_a_file(
    backend: TensorRT, gpu: HostGpu, installed: HostTensorRT, tmp_path: Path
) -> None:
    with opened(tmp_path, backend) as engine:
        check(engine)
        gpu.done()
        check(engine)
        assert ("launch" in gpu.done()) == (backend == "tensorrt")
    assert (tmp_path / "sm89.kernels").exists() == (backend == "tensorrt-rtx")


def test_a_plan_that_cannot_be_read(installed: HostTensorRT, tmp_path: Path) -> None:
    missing = tmp_path / "none.plan"
    with pytest.raises(EngineError, match=r"^net: the plan none.plan cannot be read: \[Errno 2\]"):
        engine_from_plan(
            missing, name="net", backend="tensorrt", signature=SIGNATURE, profiles=STATIC
        )


def test_what_dies_while_a_plan_fails_to_open_is_freed(
    gpu: HostGpu, installed: HostTensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as engine:
        held = [engine.run_on_device(feeds_of(2))]

    def fail(logger: object) -> None:
        held.clear()
        raise RuntimeError("lost")

    monkeypatch.setattr(installed, "Runtime", fail)
    with pytest.raises(EngineError, match="TensorRT cannot create the runtime: lost"):
        opened(tmp_path)
    gpu.assert_empty()
