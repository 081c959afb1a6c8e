"""The early end of a request: a deadline, or another thread that closes its stream."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from sdrt import (
    Bundle,
    DeadlineExceeded,
    Pipeline,
    RequestCancelled,
    RequestError,
    SdrtError,
    Step,
    Stream,
)
from sdrt.targets.runnable import Runnable
from sdrt_engines import Array, Engine, EngineError
from sdrt_engines.interruptible import num_running
from support.function_networks import CIRCLE, UNET, Networks, pipeline_of, predict
from support.slow_networks import ENDLESS
from support.toy_bundle import write_toy_bundle

SOON = 0.1  # seconds


class Gate:
    """A UNet that waits in its third run until it is opened."""

    def __init__(self) -> None:
        self.num_runs, self.reached, self.opened = 0, Event(), Event()

    def __call__(self, feeds: dict[str, Array]) -> dict[str, Array]:
        self.num_runs += 1
        if self.num_runs == 3:
            self.reached.set()
            assert self.opened.wait(10)
        return predict(feeds)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def stream(folder: Path, gate: Gate) -> Stream:
    pipe = pipeline_of(folder, Networks(unet=(UNET, gate)))
    return pipe.stream(CIRCLE, num_inference_steps=6, seed=0)


class Taker(Thread):
    """Takes the steps of a stream in another thread."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.error: Exception | None = None
        self._stream = stream
        self.start()

    def run(self) -> None:
        try:
            self.steps.extend(self._stream)
        except Exception as error:
            self.error = error


def test_closing_in_another_thread_cancels_after_the_running_network(
    stream: Stream, gate: Gate
) -> None:
    taker = Taker(stream)
    assert gate.reached.wait(10)
    stream.close()
    gate.opened.set()
    taker.join(10)
    assert isinstance(taker.error, RequestCancelled)
    assert str(taker.error) == "the request was cancelled in step 3 of 6: it has no image"
    assert (len(taker.steps), gate.num_runs) == (2, 3)
    with pytest.raises(SdrtError, match="has not finished"):
        _ = stream.result


def test_closing_in_another_thread_between_two_steps(stream: Stream) -> None:
    next(stream)
    closer = Thread(target=stream.close)
    closer.start()
    closer.join(10)
    for _ in range(2):
        with pytest.raises(RequestCancelled, match="was cancelled in step 2 of 6"):
            next(stream)


def test_closing_a_finished_stream_keeps_its_result(pipe: Pipeline) -> None:
    stream = pipe.stream(CIRCLE, num_inference_steps=1, seed=0)
    list(stream)
    closer = Thread(target=stream.close)
    closer.start()
    closer.join(10)
    assert next(stream, None) is None
    assert stream.result.seeds == (0,)


def test_one_thread_at_a_time_takes_a_step(stream: Stream, gate: Gate) -> None:
    taker = Taker(stream)
    assert gate.reached.wait(10)
    with pytest.raises(SdrtError, match=r"another thread is taking a step .*: take its steps one"):
        next(stream)
    gate.opened.set()
    taker.join(10)
    assert [step.index for step in taker.steps] == [0, 1, 2, 3, 4, 5]
    assert stream.result.seeds == (0,)


def test_a_forgotten_stream_is_quiet(pipe: Pipeline, capfd: pytest.CaptureFixture[str]) -> None:
    next(pipe.stream(CIRCLE, num_inference_steps=6, seed=0))
    gc.collect()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("deadline", [0, -1, 1e9, math.nan, math.inf, True, "5", [5]])
def test_impossible_deadlines_are_refused(
    pipe: Pipeline, networks: Networks, deadline: Any
) -> None:
    with pytest.raises(RequestError, match=r"deadline: got .*, expected a number from 0.001 to"):
        pipe.stream(CIRCLE, deadline=deadline)
    assert sum(networks.num_runs.values()) == 0


def test_a_deadline_in_time_changes_nothing(pipe: Pipeline) -> None:
    without = pipe(CIRCLE, num_inference_steps=2, seed=0)
    result = pipe(CIRCLE, deadline=np.float64(60), num_inference_steps=2, seed=0)
    np.testing.assert_array_equal(result.latents, without.latents)
    assert result.parameters == without.parameters
    assert result.request == without.request


def test_a_deadline_counts_from_the_first_step(pipe: Pipeline) -> None:
    stream = pipe.stream(CIRCLE, deadline=2 * SOON, num_inference_steps=3, seed=0)
    time.sleep(2.5 * SOON)
    next(stream)
    time.sleep(2.5 * SOON)
    message = "the deadline of 0.2 s passed in step 2 of 3, while 'unet' ran: set a later deadline"
    with pytest.raises(DeadlineExceeded, match=message):
        next(stream)


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[Pipeline]:
    bundle = Bundle.open(write_toy_bundle(tmp_path / "toy", num_trips=ENDLESS))
    with Pipeline.open(bundle.root, "cpu", num_threads=1) as pipe:
        yield pipe


def test_a_deadline_ends_a_running_network(endless: Pipeline) -> None:
    with pytest.raises(
        DeadlineExceeded,
        match="passed before the end of the first step, while 'unet' ran: set a later deadline, or",
    ):
        endless(CIRCLE, deadline=3 * SOON, height=64, width=64)


def test_closing_a_pipeline_waits_for_the_runs_of_others(folder: Path, gate: Gate) -> None:
    pipe = pipeline_of(folder, Networks(unet=(UNET, gate)))
    taker = Taker(pipe.stream(CIRCLE, num_inference_steps=6, seed=0))
    assert gate.reached.wait(10)
    closer = Thread(target=pipe.close)
    closer.start()
    closer.join(SOON)
    assert closer.is_alive()
    gate.opened.set()
    closer.join(10)
    taker.join(10)
    assert isinstance(taker.error, SdrtError)
    assert gate.num_runs == 3


class Opening:
    """Opens engines when `allowed` is set, and keeps them."""

    def __init__(self) -> None:
        self.allowed = Event()
        self.engines: list[Engine] = []
        self._open = Runnable.open

    def __call__(self, network: Runnable, num_threads: int | None) -> Engine:
        assert self.allowed.wait(10)
        engine = self._open(network, num_threads)
        self.engines.append(engine)
        return engine

    def finish(self) -> None:
        """Waits for what nobody else waits for any longer."""
        self.allowed.set()
        end = time.monotonic() + 10
        while num_running():
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.fixture
def opening(monkeypatch: pytest.MonkeyPatch) -> Opening:
    opening = Opening()
    monkeypatch.setattr(Runnable, "open", lambda *arguments: opening(*arguments))
    return opening


@pytest.fixture
def toy(tmp_path: Path) -> Pipeline:
    return Pipeline.open(write_toy_bundle(tmp_path / "toy"), "cpu", num_threads=1)


def test_a_network_that_loads_at_the_deadline_is_kept(toy: Pipeline, opening: Opening) -> None:
    """Or requests with a deadline shorter than loading would fail each time."""
    with pytest.raises(DeadlineExceeded, match="first step, while 'text_encoder' was loaded: set"):
        toy(CIRCLE, deadline=SOON, height=64, width=64)
    opening.finish()
    with toy:
        first = opening.engines[0]
        assert not first.closed
        toy(CIRCLE, deadline=60, height=128, width=128)
        assert len({engine.name for engine in opening.engines}) == len(opening.engines)
    assert first.closed


def test_a_network_that_loads_when_its_pipeline_closes_is_closed(
    toy: Pipeline, opening: Opening
) -> None:
    with pytest.raises(DeadlineExceeded):
        toy(CIRCLE, deadline=SOON, height=64, width=64)
    toy.close()
    opening.finish()
    assert [engine.closed for engine in opening.engines] == [True, True]  # two load at once
    with pytest.raises(EngineError, match="this pipeline is closed"):
        toy(CIRCLE, height=64, width=64)
