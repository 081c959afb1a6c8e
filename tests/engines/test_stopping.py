"""A running network is stopped, whatever library runs it, and its engine goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from sdrt_engines import (
    Array,
    Engine,
    EngineError,
    Signature,
    engine_from_onnx,
    openvino_engine_from_onnx,
)
from sdrt_engines.time_limit import time_limit
from support.alarms import AGAIN, SOON, AlarmError, alarms
from support.for_cuda import FOR_CUDA
from support.onnx_writer import onnx_model, spec
from support.opening import Opener, open_bound
from support.slow_networks import CHAIN, ENDLESS, chain_model, chained, loop, loop_weights

SHORT = np.arange(256, dtype=np.float32)[None]
LONG = np.ones((8192, 256), np.float32)  # half a minute


class LateError(Exception):
    pass


@pytest.fixture(
    params=[
        pytest.param(engine_from_onnx, id="onnxruntime"),
        pytest.param(openvino_engine_from_onnx, id="openvino", marks=pytest.mark.needs("openvino")),
        pytest.param(open_bound, id="bound", marks=FOR_CUDA),
    ]
)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    (tmp_path / "chain.onnx").write_bytes(chain_model())
    open_any: Opener = request.param
    with open_any(tmp_path / "chain.onnx", name="unet", num_threads=1) as engine:
        yield engine


def test_an_exception_of_a_signal_handler_passes_unchanged(engine: Engine) -> None:
    before = engine.run({"x": SHORT})["y"]
    with pytest.raises(AlarmError), alarms(SOON):
        engine.run({"x": LONG})
    np.testing.assert_array_equal(before, chained(SHORT))
    np.testing.assert_array_equal(engine.run({"x": SHORT})["y"], before)


def test_a_time_limit_stops_a_run_and_those_that_wait_for_it(engine: Engine) -> None:
    errors: list[Exception] = []

    def run() -> None:
        try:
            with time_limit(end, LateError):
                engine.run({"x": LONG})
        except Exception as error:
            errors.append(error)

    end = time.monotonic() + SOON
    threads = [Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(error) for error in errors] == [LateError] * 3
    np.testing.assert_array_equal(engine.run({"x": SHORT})["y"], chained(SHORT))


def test_onnxruntime_stops_within_a_loop(tmp_path: Path) -> None:
    signature = Signature((spec("x", "float32", "B"),), (spec("y", "float32", "B"),))
    model = onnx_model(signature, [loop("x", "y", ["B"])], loop_weights(ENDLESS))
    (tmp_path / "endless.onnx").write_bytes(model)
    with (
        engine_from_onnx(tmp_path / "endless.onnx", num_threads=1) as engine,
        pytest.raises(LateError),
        time_limit(time.monotonic() + SOON, LateError),
    ):
        engine.run({"x": SHORT[0]})


class Stuck(Engine):
    """An engine whose runs do not end when they are cancelled."""

    blocks = True

    def __init__(self) -> None:
        super().__init__(CHAIN, "stuck")
        self.begun, self.continues, self.released = Event(), Event(), Event()

    def _run(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array]:
        self.begun.set()
        assert self.continues.wait(30)
        assert not self.released.is_set()
        return {"y": values["x"]}

    def _release(self) -> None:
        self.released.set()


def test_an_engine_closes_when_a_run_that_was_left_ends() -> None:
    engine = Stuck()
    with pytest.raises(AlarmError), alarms(SOON, AGAIN):
        engine.run({"x": SHORT})
    engine.close()
    engine.close()
    assert not engine.released.is_set()
    with pytest.raises(EngineError, match="stuck: this engine is closed"):
        engine.run({"x": SHORT})
    engine.continues.set()
    assert engine.released.wait(10)


def test_closing_waits_for_the_runs_of_others() -> None:
    engine = Stuck()
    runner = Thread(target=engine.run, args=[{"x": SHORT}])
    runner.start()
    assert engine.begun.wait(10)
    closer = Thread(target=engine.close)
    closer.start()
    closer.join(SOON)
    assert closer.is_alive()
    engine.continues.set()
    closer.join(10)
    assert engine.released.is_set()
    runner.join(10)
