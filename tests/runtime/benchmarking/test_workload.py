from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sdrt import Bundle, Pipeline, Request
from sdrt.benchmarking.workload import Served, Workload
from sdrt.errors import SdrtError
from sdrt_engines import Array, EngineError, FunctionEngine, Resolution, Target
from support.backends import opening
from support.function_networks import Networks, pipeline_of
from support.toy_bundle import write_toy_bundle

REQUEST = Request("a red circle", num_inference_steps=3, seed=5, width=64, height=64)
WORKLOAD = Workload("toy", "cpu", REQUEST, num_threads=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_toy_bundle(tmp_path / "toy")


def test_every_request_has_seeds_of_its_own() -> None:
    requests = [WORKLOAD.request_of(number, batch=4) for number in range(3)]
    assert [request.seed for request in requests] == [5, 9, 13]
    assert {request.num_images for request in requests} == {4}


def test_seeds_begin_again_after_the_greatest() -> None:
    late = Workload("toy", "cpu", Request("a red circle", seed=2**64 - 1))
    assert late.request_of(3, batch=2).seed == 8


@pytest.mark.parametrize(("name", "num_threads"), [("openvino", 1), ("cuda", None)])
def test_threads_are_for_targets_on_the_cpu(name: str, num_threads: int | None) -> None:
    named = WORKLOAD.on(Target(name))
    assert (named.target, named.num_threads) == (name, num_threads)


def test_a_run_holds_stages_and_steps(root: Path) -> None:
    networks = Networks()
    serve = Served(pipeline_of(root, networks, guidance_scale=1.0), WORKLOAD)
    run = serve(0)
    timings = run.timings
    assert timings.total == pytest.approx(sum(timings.seconds.values()) + timings.host)
    assert len(run.steps) == 2  # between three
    assert all(seconds > 0 for seconds in run.steps)
    assert networks.num_runs["unet"] == 3


def test_runs_that_warm_up_are_not_kept(root: Path) -> None:
    networks = Networks()
    serve = Served(pipeline_of(root, networks, guidance_scale=1.0), replace(WORKLOAD, warmup=2))
    serve.warm_up()
    assert serve.runs == []
    assert networks.num_runs["vae_decoder"] == 2


def test_samples_of_two_targets_are_an_error(root: Path) -> None:
    """The UNet fails in its second request, and "auto" continues with the CPU."""
    num_calls = 0

    def unet(feeds: dict[str, Array]) -> dict[str, Array]:
        nonlocal num_calls
        num_calls += 1
        if num_calls > 3:
            raise EngineError("unet: out of memory")
        return {"out_sample": feeds["sample"] * np.float32(0.5)}

    bundle = Bundle.open(root)
    engine = FunctionEngine(bundle.component("unet").signature, unet, name="unet")
    resolution = Resolution(Target("openvino"), others=(opening("cpu"),))
    on_cpu = Pipeline.open(root, "cpu").engines
    others = {name: on_cpu[name] for name in ("text_encoder", "vae_decoder")}
    serve = Served(Pipeline(bundle, resolution, others | {"unet": engine}), WORKLOAD)
    assert serve(0).target == "openvino"
    with pytest.raises(SdrtError) as caught:
        serve(1)
    assert str(caught.value) == (
        "the target changed from openvino to cpu (after openvino: unet: out of memory) during "
        "the measurement: name the one to measure with --target"
    )
