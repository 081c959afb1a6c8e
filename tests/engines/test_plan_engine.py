"""Plans on a simulated GPU, which does nothing until it is waited for."""

from __future__ import annotations

import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sdrt_engines import Array, DeviceArray, Signature, engine_from_onnx
from sdrt_engines.plan_engine import MAX_GRAPHS
from support.host_gpu import HostGpu
from support.host_tensorrt import SCRATCH
from support.onnx_writer import onnx_model
from support.scaled import FLEXIBLE, KINDS, SIGNATURE, STATIC, T, network, profile, x_of


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_the_network_s(kind: str, gpu: HostGpu) -> None:
    engine = gpu.engine(SIGNATURE, network, KINDS[kind])
    for seed, rows in enumerate([2, 3, 2, 2, 3]):
        feeds = {"x": x_of(rows, seed), "t": x_of(rows, seed + 50)}
        got = engine.run(feeds)
        for name, expected in network(feeds).items():
            np.testing.assert_array_equal(got[name], expected)
    np.testing.assert_array_equal(engine.run(feeds, ["z"])["z"], network(feeds)["z"])


def test_the_caller_may_change_its_arrays_after_a_run(gpu: HostGpu) -> None:
    """Also an array that is not contiguous, whose copy has no other owner."""
    engine = gpu.engine(SIGNATURE, network, FLEXIBLE)
    wide = np.random.default_rng(0).standard_normal((2, 8), np.float32)
    x = wide[:, ::2]
    expected = x * T
    got = engine.run({"x": x, "t": T})["y"]
    wide[:] = 0
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(engine.run({"x": x, "t": T})["y"], np.zeros((2, 4)))


@pytest.mark.parametrize("stays", [False, True])
def test_arrays_are_let_go_after_their_upload(stays: bool, gpu: HostGpu) -> None:
    engine = gpu.engine(SIGNATURE, network, FLEXIBLE)
    x = x_of(2)
    seen = weakref.ref(x)
    kept = engine.run_on_device({"x": x, "t": T})["y"] if stays else None
    if isinstance(kept, DeviceArray):
        kept.numpy()
    else:
        engine.run({"x": x, "t": T})
    del x
    assert seen() is None


def test_a_run_waits_once_and_a_pinned_feed_goes_up_once(gpu: HostGpu) -> None:
    engine = gpu.engine(SIGNATURE, network, FLEXIBLE)
    pinned = engine.pin("t", T)
    gpu.done()
    engine.run({"x": x_of(2), "t": pinned})
    assert gpu.done() == ["up", "up", "execute", "down", "down", "wait"]
    got = engine.run({"x": x_of(2), "t": pinned}, ["y"])
    assert gpu.done() == ["up", "execute", "down", "wait"]
    np.testing.assert_array_equal(got["y"], x_of(2) * T)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_pinned_goes_up_again_after_another_took_its_place(kind: str, gpu: HostGpu) -> None:
    engine = gpu.engine(SIGNATURE, network, KINDS[kind])
    pinned, x = engine.pin("t", T), x_of(2)
    for others in (x_of(2, 5), engine.run_on_device({"x": x, "t": T})["y"], engine.pin("t", x)):
        np.testing.assert_array_equal(engine.run({"x": x, "t": pinned})["y"], x * T)
        engine.run({"x": x, "t": others})
        np.testing.assert_array_equal(engine.run({"x": x, "t": pinned})["y"], x * T)


def test_the_profile_of_the_shapes_is_set_once(gpu: HostGpu) -> None:
    """It also decides if a run is captured. Each profile has its own context."""
    engine = gpu.engine(SIGNATURE, network, [profile("2"), profile("1..16")])
    kinds = []
    for rows in (2, 5, 5, 2, 2):
        gpu.done()
        np.testing.assert_array_equal(
            engine.run({"x": x_of(rows), "t": x_of(rows)})["y"], x_of(rows) ** 2
        )
        kinds.append([entry for entry in gpu.done() if entry in ("profile", "execute", "launch")])
    assert kinds[0] == ["execute"]  # the first context was made with the engine
    assert kinds[1:3] == [["profile", "execute"], ["execute"]]
    assert kinds[3:] == [["execute"], ["launch"]]  # memory has moved: captured once more


def test_static_shapes_become_one_graph_each(gpu: HostGpu) -> None:
    engine = gpu.engine(SIGNATURE, network, STATIC)
    logs = []
    for rows in (2, 2, 3, 2, 3):
        engine.run({"x": x_of(rows), "t": x_of(rows)}, ["y"])
        logs.append([entry for entry in gpu.done() if entry in ("execute", "capture", "launch")])
    first, again = ["execute", "capture"], ["launch"]
    # in the second shape memory is larger, so the first is captured once more
    assert logs == [first, again, first, first, again]


def test_tensorrt_rtx_captures_by_itself(gpu: HostGpu) -> None:
    engine = gpu.engine(SIGNATURE, network, STATIC, captures_itself=True)
    gpu.done()
    for _ in range(2):
        engine.run({"x": x_of(2), "t": T}, ["y"])
        assert gpu.done() == ["up", "up", "execute", "down", "wait"]


def test_old_graphs_are_destroyed(gpu: HostGpu) -> None:
    rows = range(MAX_GRAPHS + 3, 0, -1)
    engine = gpu.engine(SIGNATURE, network, [profile(str(n)) for n in rows])
    for n in rows:
        engine.run({"x": x_of(n), "t": x_of(n)})
    assert len(gpu.cuda.executables) == MAX_GRAPHS
    engine.close()
    gpu.assert_empty()


# --- outputs that stay


@pytest.mark.parametrize("kind", KINDS)
def test_what_stays_goes_from_engine_to_engine_without_a_wait(kind: str, gpu: HostGpu) -> None:
    first, second = (gpu.engine(SIGNATURE, network, KINDS[kind]) for _ in range(2))
    pinned = {engine: engine.pin("t", T) for engine in (first, second)}
    for seed in range(4):
        x = x_of(2, seed)
        gpu.done()
        y = first.run_on_device({"x": x, "t": pinned[first]}, ["y"])["y"]
        assert not {"down", "wait"} & set(gpu.done())
        got = second.run({"x": y, "t": pinned[second]}, ["y"])["y"]
        log = gpu.done()
        assert (log.count("wait"), log.count("over"), "up" in log) == (1, 1, seed == 0)
        np.testing.assert_array_equal(got, x * T * T)


def test_what_one_request_holds_the_runs_of_others_leave_alone(gpu: HostGpu) -> None:
    engine = gpu.engine(SIGNATURE, network, STATIC)
    held = [engine.run_on_device({"x": x_of(2, seed), "t": T})["y"] for seed in range(5)]
    engine.run({"x": x_of(3), "t": x_of(3)})
    for seed, y in enumerate(held):
        assert isinstance(y, DeviceArray)
        assert (y.dtype, y.shape) == (np.dtype(np.float32), (2, 4))
        np.testing.assert_array_equal(y.numpy(), x_of(2, seed) * T)


def test_memory_that_is_given_back_serves_again(gpu: HostGpu) -> None:
    """Even before its contents have been computed: everything runs in the order of the stream."""
    engine = gpu.engine(SIGNATURE, network, FLEXIBLE)
    x: Array | DeviceArray = x_of(2)
    for _ in range(3):
        x = engine.run_on_device({"x": x, "t": T}, ["y"])["y"]
    blocks = len(gpu.cuda.memory)
    for _ in range(10):
        x = engine.run_on_device({"x": x, "t": T}, ["y"])["y"]
    assert len(gpu.cuda.memory) == blocks
    assert isinstance(x, DeviceArray)
    np.testing.assert_allclose(x.numpy(), x_of(2) * T**13, rtol=1e-5)


def test_another_device_s_engine_takes_it_through_the_host(
    gpu: HostGpu, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cpu") / "model.onnx"
    product = Signature(SIGNATURE.inputs, SIGNATURE.outputs[:1])
    path.write_bytes(onnx_model(product, [("Mul", ["x", "t"], ["y"])]))
    y = gpu.engine(SIGNATURE, network, FLEXIBLE).run_on_device({"x": x_of(2), "t": T})["y"]
    with engine_from_onnx(path, num_threads=1) as cpu:
        np.testing.assert_allclose(cpu.run({"x": y, "t": T})["y"], x_of(2) * T * T, rtol=1e-6)


# --- shared by engines


def test_engines_share_scratch_memory(gpu: HostGpu) -> None:
    engines = [gpu.engine(SIGNATURE, network, STATIC) for _ in range(3)]
    for engine in engines:
        for rows in (2, 3, 2):
            feeds = {"x": x_of(rows), "t": x_of(rows)}
            np.testing.assert_array_equal(engine.run(feeds)["y"], x_of(rows) ** 2)
    sizes = [block.nbytes for block in gpu.cuda.memory.values()]
    assert sizes.count(2 * SCRATCH) == 1  # the second profile's, which is the larger
    assert SCRATCH not in sizes


def test_threads_take_turns(gpu: HostGpu) -> None:
    engines = [gpu.engine(SIGNATURE, network, STATIC) for _ in range(2)]
    pinned = [engine.pin("t", T) for engine in engines]

    def chain(seed: int) -> bool:
        x = x_of(2, seed)
        y = engines[0].run_on_device({"x": x, "t": pinned[0]}, ["y"])["y"]
        got = engines[1].run({"x": y, "t": pinned[1]}, ["y"])["y"]
        return np.array_equal(got, x * T * T)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(chain, range(200)))
