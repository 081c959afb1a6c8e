from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from sdrt_engines import Array, EngineError, FunctionEngine, Signature, TensorError
from support.onnx_writer import spec

Feeds = dict[str, Any]

SIGNATURE = Signature(
    inputs=(
        spec("sample", "float32", "B", 4, "h", "w"),
        spec("timestep", "float32", "B"),
        spec("encoder_hidden_states", "float32", "B", "L", 8),
    ),
    outputs=(spec("out_sample", "float32", "B", 4, "h", "w"), spec("mean", "float32", "B")),
)


def feeds(batch: int = 2) -> Feeds:
    return {
        "sample": np.ones((batch, 4, 3, 5), np.float32),
        "timestep": np.full(batch, 7, np.float32),
        "encoder_hidden_states": np.ones((batch, 77, 8), np.float32),
    }


def add(arrays: dict[str, Array]) -> dict[str, Array]:
    text = arrays["encoder_hidden_states"].mean((1, 2))
    out = arrays["sample"] + (arrays["timestep"] * text)[:, None, None, None]
    return {"out_sample": out, "mean": text}


@pytest.fixture
def unet() -> FunctionEngine:
    return FunctionEngine(SIGNATURE, add, name="unet")


def test_a_run_gives_every_output(unet: FunctionEngine) -> None:
    results = unet.run(feeds())
    assert list(results) == ["out_sample", "mean"]
    np.testing.assert_array_equal(results["out_sample"], np.full((2, 4, 3, 5), 8, np.float32))


def test_a_run_gives_only_the_outputs_asked_for(unet: FunctionEngine) -> None:
    assert list(unet.run(feeds(), ["mean"])) == ["mean"]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["out_smaple"], "unet: no output 'out_smaple': did you mean 'out_sample'?"),
        (["x"], "unet: no output 'x': known: out_sample, mean"),
        ([], "unet: no output requested"),
    ],
)
def test_wrong_outputs(unet: FunctionEngine, outputs: list[str], message: str) -> None:
    with pytest.raises(TensorError) as caught:
        unet.run(feeds(), outputs)
    assert str(caught.value).startswith(message)


def without(name: str) -> Callable[[Feeds], None]:
    return lambda arrays: arrays.pop(name)


def with_(name: str, value: object) -> Callable[[Feeds], None]:
    return lambda arrays: arrays.update({name: value})


def renamed(name: str, new: str) -> Callable[[Feeds], None]:
    return lambda arrays: arrays.update({new: arrays.pop(name)})


WRONG_FEEDS = [
    (without("timestep"), "unet: missing input 'timestep' float32 (B,): feed every input"),
    (renamed("timestep", "timesteps"), "unet: no input 'timesteps': did you mean 'timestep'?"),
    (with_("extra", np.ones(1)), "unet: no input 'extra': known: sample, timestep, encoder"),
    (
        with_("sample", np.ones((2, 4, 3, 5))),
        "unet: input 'sample' is float64 (2, 4, 3, 5), expected float32 (B, 4, h, w): "
        "convert it with .astype('float32')",
    ),
    (
        with_("sample", np.ones((2, 4, 3, 5), ">f4")),
        "unet: input 'sample' is >f4 (2, 4, 3, 5), expected float32 (B, 4, h, w): convert",
    ),
    (
        with_("sample", np.ones((4, 3, 5), np.float32)),
        "unet: input 'sample' is float32 (4, 3, 5), expected float32 (B, 4, h, w): "
        "it must have 4 dimensions, not 3",
    ),
    (
        with_("sample", np.ones((2, 3, 3, 5), np.float32)),
        "unet: input 'sample' is float32 (2, 3, 3, 5), expected float32 (B, 4, h, w): "
        "dimension 1 must be 4, not 3",
    ),
    (
        with_("sample", np.ones((2, 4, 0, 5), np.float32)),
        "unet: input 'sample' is float32 (2, 4, 0, 5), expected float32 (B, 4, h, w): "
        "dimension 2 must not be empty",
    ),
    (
        with_("timestep", np.ones(1, np.float32)),
        "unet: input 'timestep' is float32 (1,), expected float32 (B,): "
        "dimension 0 must be 2, the B of this run, not 1",
    ),
    (
        with_("timestep", [7.0, 7.0]),
        "unet: input 'timestep' is a list, expected float32 (B,): it must be a numpy array",
    ),
    (with_("timestep", np.float32(7)), "unet: input 'timestep' is a float32, expected float32 (B"),
]


@pytest.mark.parametrize(("spoil", "message"), WRONG_FEEDS)
def test_wrong_feeds_never_reach_the_function(spoil: Callable[[Feeds], None], message: str) -> None:
    calls: list[object] = []

    def function(arrays: Feeds) -> Feeds:
        calls.append(arrays)
        return {}

    unet = FunctionEngine(SIGNATURE, function, name="unet")
    arrays = feeds()
    spoil(arrays)
    with pytest.raises(TensorError) as caught:
        unet.run(arrays)
    assert str(caught.value).startswith(message)
    assert not calls


def test_symbolic_dimensions_are_free_from_run_to_run(unet: FunctionEngine) -> None:
    assert unet.run(feeds(batch=1))["mean"].shape == (1,)
    assert unet.run(feeds(batch=3))["mean"].shape == (3,)


def test_a_pinned_feed_replaces_its_array(unet: FunctionEngine) -> None:
    arrays = feeds()
    text = arrays["encoder_hidden_states"]
    expected = unet.run(arrays)["out_sample"]
    arrays["encoder_hidden_states"] = unet.pin("encoder_hidden_states", text)
    text[:] = 100  # comes too late
    np.testing.assert_array_equal(unet.run(arrays)["out_sample"], expected)
    np.testing.assert_array_equal(unet.run(arrays)["out_sample"], expected)


def test_what_is_pinned_is_checked(unet: FunctionEngine) -> None:
    with pytest.raises(TensorError, match=r"'timestep' is float64 \(2,\), expected float32 \(B,\)"):
        unet.pin("timestep", np.ones(2))
    with pytest.raises(TensorError, match="no input 'timesteps': did you mean 'timestep'"):
        unet.pin("timesteps", np.ones(2, np.float32))


def test_a_pinned_feed_binds_its_dimensions_too(unet: FunctionEngine) -> None:
    arrays = feeds(batch=1)
    arrays["timestep"] = unet.pin("timestep", np.ones(2, np.float32))
    with pytest.raises(
        TensorError,
        match=r"'timestep' is a pinned array \(2,\), expected .* must be 1, the B of this run",
    ):
        unet.run(arrays)


def test_a_pinned_feed_is_good_for_its_own_engine_and_name(unet: FunctionEngine) -> None:
    other = FunctionEngine(SIGNATURE, add, name="other")
    arrays = feeds()
    arrays["timestep"] = other.pin("timestep", np.ones(2, np.float32))
    with pytest.raises(TensorError, match="pinned as 'timestep' of other: pin it here"):
        unet.run(arrays)
    arrays["timestep"] = unet.pin("sample", np.ones((2, 4, 3, 5), np.float32))
    with pytest.raises(TensorError, match="pinned as 'sample' of unet: pin it here"):
        unet.run(arrays)


def test_a_closed_engine_says_so(unet: FunctionEngine) -> None:
    with unet as engine:
        assert not engine.closed
        assert repr(engine) == "<FunctionEngine unet (open)>"
    assert unet.closed
    assert repr(unet) == "<FunctionEngine unet (closed)>"
    unet.close()
    for use in (lambda: unet.run(feeds()), lambda: unet.pin("timestep", np.ones(2, np.float32))):
        with pytest.raises(EngineError, match="unet: this engine is closed: open it again"):
            use()


def test_close_waits_for_runs_in_progress() -> None:
    running, go_on = threading.Event(), threading.Event()

    def slow(arrays: dict[str, Array]) -> dict[str, Array]:
        running.set()
        assert go_on.wait(10)
        return add(arrays)

    unet = FunctionEngine(SIGNATURE, slow)
    with ThreadPoolExecutor(2) as threads:
        run = threads.submit(unet.run, feeds())
        assert running.wait(10)
        close = threads.submit(unet.close)
        while not unet.closed:
            pass
        assert not close.done()
        with pytest.raises(EngineError, match="closed"):
            unet.run(feeds())
        go_on.set()
        assert run.result(10)["mean"].shape == (2,)
        close.result(10)


def test_runs_may_overlap() -> None:
    together = threading.Barrier(4, timeout=10)  # passes only if four runs are inside at once

    def meet(arrays: dict[str, Array]) -> dict[str, Array]:
        together.wait()
        return add(arrays)

    unet = FunctionEngine(SIGNATURE, meet)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda batch: unet.run(feeds(batch)), [1, 2, 3, 4]))
    assert [len(result["mean"]) for result in results] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mean", np.ones(2), "output 'mean' is float64 (2,), expected float32 (B,): convert"),
        ("mean", np.ones(3, np.float32), "must be 2, the B of this run, not 3"),
        ("mean", 1.0, "output 'mean' is a float, expected float32 (B,)"),
        ("max", np.ones(2), "returned ['max', 'mean', 'out_sample'], expected ['mean', 'out_"),
    ],
)
def test_a_function_must_keep_its_promise(name: str, value: Any, message: str) -> None:
    unet = FunctionEngine(SIGNATURE, lambda arrays: {**add(arrays), name: value}, name="unet")
    with pytest.raises(TensorError) as caught:
        unet.run(feeds())
    assert message in str(caught.value)


def test_results_belong_to_the_caller() -> None:
    signature = Signature((spec("x", "float32", 3),), (spec("y", "float32", 3),))
    same = FunctionEngine(signature, lambda arrays: {"y": arrays["x"]})
    x = np.zeros(3, np.float32)
    same.run({"x": x})["y"] += 1
    np.testing.assert_array_equal(x, 0)
    pinned = same.pin("x", x)
    same.run({"x": pinned})["y"] += 1
    np.testing.assert_array_equal(same.run({"x": pinned})["y"], 0)


def test_what_the_function_raises_passes_through() -> None:
    def fail(arrays: dict[str, Array]) -> dict[str, Array]:
        raise ZeroDivisionError("mine")

    unet = FunctionEngine(SIGNATURE, fail)
    with pytest.raises(ZeroDivisionError, match="mine"):
        unet.run(feeds())
    unet.close()  # would wait forever if the failed run still counted
