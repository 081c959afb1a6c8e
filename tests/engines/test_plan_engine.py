"""Plans on a simulated GPU, which does nothing until it is waited for."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sdrt_engines import Array, DeviceArray, EngineError, Signature, TensorError, engine_from_onnx
from sdrt_engines.plan_engine import MAX_GRAPHS, PlanEngine
from sdrt_engines.shape_profiles import Profile, Range
from support.host_gpu import SCRATCH, HostGpu
from support.onnx_writer import onnx_model, spec

SIGNATURE = Signature(
    (spec("x", "float32", "B", 4), spec("t", "float32", "B", 4)),
    (spec("y", "float32", "B", 4), spec("z", "float32", "B", "2*B")),
)


def network(feeds: dict[str, Array]) -> Mapping[str, Array]:
    x, t = feeds["x"], feeds["t"]
    return {"y": x * t, "z": np.full((len(x), 2 * len(x)), x.sum(), np.float32)}


def profile(rows: str) -> Profile:
    return Profile({name: (Range.parse(rows), Range.of(4)) for name in ("x", "t")})


FLEXIBLE = (profile("1..16"),)
SIMPLE = Signature(SIGNATURE.inputs[:1], SIGNATURE.outputs[:1])


def simple(feeds: dict[str, Array]) -> Mapping[str, Array]:
    return {"y": 2 * feeds["x"]}


STATIC = (profile("2"), profile("3"))
KINDS = {"flexible": FLEXIBLE, "static": STATIC}


def x_of(rows: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, 4), np.float32)


T = x_of(2, seed=99)


@pytest.fixture
def gpu() -> HostGpu:
    return HostGpu()


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
    """It also decides if a run is captured."""
    engine = gpu.engine(SIGNATURE, network, [profile("2"), profile("1..16")])
    kinds = []
    for rows in (2, 5, 5, 2, 2):
        gpu.done()
        np.testing.assert_array_equal(
            engine.run({"x": x_of(rows), "t": x_of(rows)})["y"], x_of(rows) ** 2
        )
        kinds.append([entry for entry in gpu.done() if entry in ("profile", "execute", "launch")])
    assert kinds[0] == ["execute", "launch"]  # a context begins with profile 0
    assert kinds[1:3] == [["profile", "execute"], ["execute"]]
    assert kinds[3][0] == "profile"
    assert kinds[4] == ["launch"]


def test_static_shapes_become_one_graph_each(gpu: HostGpu) -> None:
    engine = gpu.engine(SIGNATURE, network, STATIC)
    logs = []
    for rows in (2, 2, 3, 2, 3):
        engine.run({"x": x_of(rows), "t": x_of(rows)}, ["y"])
        logs.append([entry for entry in gpu.done() if entry in ("execute", "capture", "launch")])
    first, again = ["execute", "capture", "launch"], ["launch"]
    # in the second shape memory is larger, so the first is captured once more
    assert logs == [first, again, first, first, again]


def test_tensorrt_rtx_captures_by_itself(gpu: HostGpu) -> None:
    engine = gpu.engine(SIGNATURE, network, STATIC, captures_itself=True)
    for _ in range(2):
        engine.run({"x": x_of(2), "t": T}, ["y"])
        assert gpu.done() == ["up", "up", "execute", "down", "wait"]


def test_old_graphs_are_destroyed(gpu: HostGpu) -> None:
    rows = range(MAX_GRAPHS + 3, 0, -1)
    engine = gpu.engine(SIGNATURE, network, [profile(str(n)) for n in rows])
    for n in rows:
        engine.run({"x": x_of(n), "t": x_of(n)})
    assert len(gpu.cuda.graphs) == MAX_GRAPHS
    engine.close()
    assert not gpu.cuda.graphs


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


def test_closing_gives_all_memory_back(gpu: HostGpu) -> None:
    engine = gpu.engine(SIGNATURE, network, STATIC)
    held = engine.run_on_device({"x": x_of(2), "t": T})["y"]
    engine.run({"x": x_of(3), "t": x_of(3)})
    gc.collect()
    engine.close()
    assert isinstance(held, DeviceArray)
    np.testing.assert_array_equal(held.numpy(), x_of(2) * T)  # it belongs to its holder
    assert gpu.plans[0].closed
    assert len(gpu.cuda.memory) == 2  # scratch memory, and what is held
    with pytest.raises(EngineError, match="this engine is closed"):
        engine.run({"x": x_of(2), "t": T})


# --- errors


def fails(gpu: HostGpu, failing: bool) -> None:
    for plan in gpu.plans:
        plan.context.fails = failing


def test_a_failed_run_leaves_no_copy_under_way(gpu: HostGpu) -> None:
    """The arrays that it would write to are gone."""
    engine = gpu.engine(SIGNATURE, network, FLEXIBLE)
    gpu.cuda.failing_copy = 4  # after two uploads and one download
    with pytest.raises(EngineError, match="CUDA failed: cudaErrorIllegalAddress"):
        engine.run({"x": x_of(2), "t": T})
    assert not gpu.cuda.stream
    np.testing.assert_array_equal(engine.run({"x": x_of(2), "t": T})["y"], x_of(2) * T)


def test_after_a_failed_run_what_is_pinned_goes_up_again(gpu: HostGpu) -> None:
    engine = gpu.engine(SIGNATURE, network, STATIC)
    pinned = engine.pin("t", T)
    fails(gpu, True)
    with pytest.raises(EngineError, match=r"^net: TensorRT refused the run"):
        engine.run({"x": x_of(2), "t": pinned})
    fails(gpu, False)
    gpu.done()
    np.testing.assert_array_equal(engine.run({"x": x_of(2), "t": pinned})["y"], x_of(2) * T)
    assert gpu.done().count("up") == 2


def test_a_capture_that_fails_leaves_the_stream_usable(gpu: HostGpu) -> None:
    engine = gpu.engine(SIGNATURE, network, STATIC)
    context = gpu.plans[0].context
    context.ready = NeverReady()
    with pytest.raises(EngineError, match="TensorRT refused the run"):
        engine.run({"x": x_of(2), "t": T})
    assert gpu.cuda.capturing is None
    assert not gpu.cuda.graphs
    context.ready = set()
    np.testing.assert_array_equal(engine.run({"x": x_of(2), "t": T})["y"], x_of(2) * T)


class NeverReady(set[object]):
    def __contains__(self, run: object) -> bool:
        return False


def test_idle_memory_makes_room_for_whatever_needs_it() -> None:
    gpu = HostGpu(capacity=200_000)
    one, other = (
        gpu.engine(SIMPLE, simple, [Profile({"x": (Range.of(rows), Range.of(4))})])
        for rows in (1000, 2000)
    )
    held = [one.run_on_device({"x": x_of(1000)}) for _ in range(8)]
    held.clear()
    gc.collect()
    np.testing.assert_array_equal(other.run({"x": x_of(2000)})["y"], 2 * x_of(2000))


def test_too_little_memory_is_reported_and_a_smaller_shape_runs() -> None:
    """The memory reserved for the large shape is free again."""
    gpu = HostGpu(capacity=4200)
    engine = gpu.engine(SIGNATURE, network, [profile("1..64")])
    with pytest.raises(
        EngineError, match="cudaErrorMemoryAllocation: take a smaller size or batch"
    ):
        engine.run({"x": x_of(60), "t": x_of(60)})
    np.testing.assert_array_equal(engine.run({"x": x_of(1), "t": x_of(1)})["y"], x_of(1) ** 2)


def test_shapes_outside_all_profiles_are_reported(gpu: HostGpu) -> None:
    engine = gpu.engine(SIGNATURE, network, STATIC)
    with pytest.raises(
        TensorError, match=r"no profile of this engine covers x \(5, 4\), t \(5, 4\)"
    ):
        engine.run({"x": x_of(5), "t": x_of(5)})
    with pytest.raises(TensorError, match="no profile"):
        engine.run_on_device({"x": x_of(5), "t": x_of(5)})
    assert isinstance(engine, PlanEngine)
    assert "execute" not in gpu.done()
