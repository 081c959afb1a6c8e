"""A target that is lost under "auto": its calls raise, its engines do not close, or do not end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import pytest

from sdrt import Bundle, Pipeline
from sdrt.targets import engines as engines_module
from sdrt.targets.engines import open_engine
from sdrt_engines import (
    Array,
    Engine,
    EngineError,
    OutOfMemoryError,
    Refusal,
    Resolution,
    Target,
    TargetError,
    resolve_target,
)
from sdrt_engines import target as target_module
from support.backends import opening, refusing

PROMPT = "a red circle"
GPU, CPU = Target("cuda"), Target("cpu")
AUTO = Resolution(GPU, others=(refusing("openvino", "not here"), opening("cpu")))
LOST = EngineError("CUDA failed: cudaErrorIllegalAddress")
Doing: TypeAlias = Callable[..., object]


class Gpu(Engine):
    """An engine of the CPU that does first what a test says, in each run and when it closes."""

    library = "TensorRT"

    def __init__(self, engine: Engine, run: Doing, release: Doing) -> None:
        super().__init__(engine.signature, engine.name)
        self._engine, self._before_run, self._before_release = engine, run, release

    def _run(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array]:
        self._before_run()
        return self._engine.run(values, outputs)

    def _release(self) -> None:
        self._before_release()
        self._engine.close()


def nothing() -> None: ...


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


def engines_on_gpu(bundle: Bundle, run: Doing, release: Doing = nothing) -> dict[str, Engine]:
    return {
        component.name: Gpu(open_engine(bundle, component.name, "cpu"), run, release)
        for component in bundle.manifest.components
    }


def on_gpu(bundle: Bundle, run: Doing, release: Doing = nothing) -> Pipeline:
    """A pipeline whose networks run on a GPU that a test loses."""
    return Pipeline(bundle, AUTO, engines_on_gpu(bundle, run, release))


@pytest.mark.parametrize("closing", [LOST, RuntimeError("context is lost")])
def test_engines_that_do_not_close_are_left(
    closing: Exception, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    engines = engines_on_gpu(bundle, raising(LOST), release=raising(closing))
    pipe = Pipeline(bundle, AUTO, engines)
    result = pipe(PROMPT, seed=1, num_inference_steps=2)
    expected = Pipeline.open(bundle.root, "cpu")(PROMPT, seed=1, num_inference_steps=2)
    np.testing.assert_array_equal(result.latents, expected.latents)
    assert result.engine == f"cpu (after cuda: {LOST})"
    assert all(engine.closed for engine in engines.values())
    assert "target cuda failed when it was closed: " in caplog.text
    assert str(closing) in caplog.text


def test_every_engine_is_closed_before_the_first_error_is_raised(bundle: Bundle) -> None:
    engines = engines_on_gpu(bundle, nothing, release=raising(LOST))
    pipe = Pipeline(bundle, Resolution(GPU), engines)
    with pytest.raises(EngineError, match="cudaErrorIllegalAddress"):
        pipe.close()
    assert all(engine.closed for engine in engines.values())
    pipe.close()


def test_an_exception_that_nobody_expected(bundle: Bundle) -> None:
    pipe = on_gpu(bundle, raising(AttributeError("no context")))
    assert pipe(PROMPT, num_inference_steps=1).engine == (
        "cpu (after cuda: text_encoder: TensorRT failed unexpectedly (AttributeError: no context): "
        "use another target, or report this)"
    )


def test_an_interrupt_is_no_failure_of_a_target(bundle: Bundle) -> None:
    pipe = on_gpu(bundle, raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        pipe(PROMPT, num_inference_steps=1)
    assert pipe.target == GPU


def test_no_memory_for_the_networks_of_a_target(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a TensorRT context."""

    def no_memory(*_: object) -> Engine:
        raise OutOfMemoryError("unet: no memory for a context")

    monkeypatch.setitem(target_module._BY_NAME, "cuda", replace(opening("cuda"), open=no_memory))
    result = Pipeline(bundle, AUTO)(PROMPT, num_inference_steps=1)
    assert result.engine == "cpu (after cuda: unet: no memory for a context)"


def test_the_next_target_may_fail_in_any_way_too(bundle: Bundle) -> None:
    broken = replace(opening("openvino"), refusal=raising(KeyError("no such property")))
    resolution = Resolution(GPU, others=(broken, opening("cpu"))).after(LOST)
    assert resolution.target == CPU
    assert resolution.refusals == (
        Refusal(
            Target("openvino"),
            "the library of openvino fails (KeyError: 'no such property'): reinstall openvino",
        ),
    )
    with pytest.raises(TargetError, match=r"^the library of openvino fails"):
        resolve_target("openvino", [broken])


def test_a_run_that_does_not_end_does_not_stop_the_others(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engines_module, "PATIENCE", 0.05)
    stuck, end = threading.Event(), threading.Event()

    def run() -> None:
        if stuck.is_set():
            raise LOST
        stuck.set()
        assert end.wait(timeout=30)
        raise LOST

    pipe = on_gpu(bundle, run)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(pipe, PROMPT, seed=1, num_inference_steps=2)
        assert stuck.wait(timeout=30)
        second = pipe(PROMPT, seed=1, num_inference_steps=2)
        assert not first.done()
        assert "target cuda is still running" in caplog.text
        end.set()
        np.testing.assert_array_equal(first.result(timeout=30).latents, second.latents)
    assert pipe.refusals == (Refusal(Target("openvino"), "not here"), Refusal(GPU, str(LOST)))


def test_engines_are_closed_even_if_no_thread_can_start(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = engines_on_gpu(bundle, raising(LOST))
    monkeypatch.setattr(threading.Thread, "start", raising(RuntimeError("can't start new thread")))
    Pipeline(bundle, AUTO, engines).engines.give_up()
    assert all(engine.closed for engine in engines.values())


def test_the_next_target_is_opened_when_the_memory_is_free(bundle: Bundle) -> None:
    """Not only for the request that failed, but for all others."""
    closing, close = threading.Event(), threading.Event()

    def release() -> None:
        closing.set()
        assert close.wait(timeout=30)

    pipe = on_gpu(bundle, raising(LOST), release)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(pipe, PROMPT, num_inference_steps=1)
        assert closing.wait(timeout=30)
        others = [pool.submit(pipe, PROMPT, num_inference_steps=1) for _ in range(2)]
        assert pipe.target == GPU
        assert pipe.engines.ran_on == "cuda"
        close.set()
        for request in (first, *others):
            assert request.result(timeout=30).engine == f"cpu (after cuda: {LOST})"


def test_a_preview_survives_the_failure_of_another_request(bundle: Bundle) -> None:
    lost = threading.Event()
    pipe = on_gpu(bundle, lambda: raising(LOST)() if lost.is_set() else None)
    step, expected = (
        next(each.stream(PROMPT, seed=1, num_inference_steps=3))
        for each in (pipe, Pipeline.open(bundle.root, "cpu"))
    )
    lost.set()
    assert pipe(PROMPT, num_inference_steps=1).engine.startswith("cpu (after cuda")
    assert step.preview()[0].tobytes() == expected.preview()[0].tobytes()


def test_the_last_target_keeps_its_own_error(bundle: Bundle) -> None:
    pipe = Pipeline(bundle, Resolution(GPU), engines_on_gpu(bundle, raising(LOST)))
    for _ in range(3):
        with pytest.raises(EngineError, match="cudaErrorIllegalAddress"):
            pipe(PROMPT, num_inference_steps=1)
