"""Runs plans on a GPU. Not run yet: there is no GPU where this was written.

TensorRT-RTX does not support every GPU (an H100, for one); what also runs there is `cuda`.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import pytest
from cuda.bindings import runtime

from sdrt.arrays import psnr_of
from sdrt.bundle.folder import Bundle
from sdrt.files.cache import cache_folder
from sdrt.pipeline import Pipeline
from sdrt.request import Request
from sdrt.targets.engines import open_engine
from sdrt_engines import DeviceArray, EngineError
from sdrt_engines.cuda_device import checked, gpu_architecture
from sdrt_engines.onnxruntime_cuda import cuda_refusal
from sdrt_engines.tensorrt_plan import TensorRT, tensorrt_refusal
from sdrt_export.building.probes import probe_inputs
from support.built_bundle import Built, build_for

pytestmark = [pytest.mark.build, pytest.mark.gpu]

TARGET: Final[TensorRT] = "tensorrt-rtx"


@pytest.fixture(scope="module")
def bundle(built: Built) -> Bundle:
    """Plans for this machine's GPU: flexible ones, and those of one size, which become graphs."""
    if reason := tensorrt_refusal(TARGET):
        pytest.skip(reason)
    target = f"{TARGET}:{gpu_architecture()}"
    build_for(target, built.root, batch="1..2", shapes=("64x64", "64x64..128x128"))
    build_for(target, built.root, batch="1", shapes=("64x64",))
    return built.bundle


@pytest.fixture(params=[TARGET, "cuda"])
def target(request: pytest.FixtureRequest) -> str:
    """A target that runs on this GPU; its plans are built."""
    name: str = request.param
    if name == TARGET:
        request.getfixturevalue("bundle")
    elif reason := cuda_refusal():
        pytest.skip(reason)
    return name


@pytest.mark.parametrize("name", [c.name for c in Bundle.open("demo").manifest.components])
def test_a_plan_gives_what_the_cpu_gives(bundle: Bundle, name: str) -> None:
    feeds = probe_inputs(bundle, name)
    if name.startswith("vae"):
        feeds = {tensor: array[:1] for tensor, array in feeds.items()}
    with open_engine(bundle, name, "cpu") as cpu, open_engine(bundle, name, TARGET) as gpu:
        expected = cpu.run(feeds)
        for outputs in (gpu.run(feeds), gpu.run(feeds), gpu.run(feeds)):  # the last ones: a graph
            for output, array in expected.items():
                assert psnr_of(array, outputs[output]) >= 30, output


def test_pinned_feeds_and_changing_shapes(bundle: Bundle) -> None:
    with open_engine(bundle, "vae_decoder", TARGET) as engine:
        random = np.random.default_rng(0)
        for side in (8, 16, 8, 12):
            latents = random.standard_normal((1, 4, side, side)).astype(np.float32)
            fed = engine.run({"latent_sample": latents})["sample"]
            pinned = engine.pin("latent_sample", latents)
            for _ in range(2):
                again = engine.run({"latent_sample": pinned})["sample"]
                np.testing.assert_allclose(again, fed, atol=1e-3)


def test_residuals_go_from_engine_to_engine(bundle: Bundle) -> None:
    """The residuals of one request do not change in the runs of another."""
    feeds = probe_inputs(bundle, "controlnet_edges")
    others = {**feeds, "sample": feeds["sample"][::-1].copy()}
    of_unet = {spec.name: feeds[spec.name] for spec in bundle.component("unet").signature.inputs}
    with (
        open_engine(bundle, "controlnet_edges", TARGET) as net,
        open_engine(bundle, "unet_controlled", TARGET) as unet,
    ):
        for _ in range(3):
            residuals = net.run_on_device(feeds)
            net.run_on_device(others)
            assert all(isinstance(residual, DeviceArray) for residual in residuals.values())
            here = unet.run({**of_unet, **residuals})
            through_host = unet.run({**of_unet, **net.run(feeds)})
            np.testing.assert_allclose(here["out_sample"], through_host["out_sample"], atol=1e-3)


def test_shapes_outside_all_profiles_are_reported(bundle: Bundle) -> None:
    with open_engine(bundle, "vae_decoder", TARGET) as engine:
        latents = np.zeros((1, 4, 99, 99), np.float32)
        with pytest.raises(EngineError, match="vae_decoder: no profile of this engine covers"):
            engine.run({"latent_sample": latents})


def test_compiled_kernels_are_in_the_users_cache(bundle: Bundle) -> None:
    with open_engine(bundle, "text_encoder", TARGET) as engine:
        engine.run(probe_inputs(bundle, "text_encoder"))
    for kernels in cache_folder().glob("kernels/*/*.kernels"):
        kernels.write_bytes(kernels.read_bytes()[:-1])  # a broken one is not taken
    with open_engine(bundle, "text_encoder", TARGET) as engine:
        engine.run(probe_inputs(bundle, "text_encoder"))


def image_of(pipeline: Pipeline, guidance_scale: float = 7.5, side: int = 64) -> np.ndarray:
    request = Request(
        "a red circle",
        seed=1,
        num_inference_steps=3,
        guidance_scale=guidance_scale,
        width=side,
        height=side,
    )
    stream = pipeline.stream(request)  # a call would warn that the size is unusual
    for _ in stream:
        pass
    return np.asarray(stream.result.images[0])


def assert_alike(image: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(image.astype(int), expected.astype(int), atol=1)


def test_guidance_and_sizes_in_turn(target: str, built: Built) -> None:
    """One row and two rows take turns in the same contexts, buffers and graphs."""
    settings = [(scale, side) for scale in (1.0, 7.5) for side in (64, 128)]
    alone = {}
    for setting in settings:
        with Pipeline.open(built.root, target) as pipeline:
            alone[setting] = image_of(pipeline, *setting)
    with Pipeline.open(built.root, target) as pipeline:
        for setting in (*settings, *settings[::-1], *settings[::2], *settings[1::2]):
            assert_alike(image_of(pipeline, *setting), alone[setting])


def test_plans_open_and_close_while_others_are_captured(target: str, built: Built) -> None:
    with Pipeline.open(built.root, target) as pipeline:
        expected = image_of(pipeline)

    def open_and_run(_: int) -> np.ndarray:
        with Pipeline.open(built.root, target) as pipeline:
            return image_of(pipeline)

    with ThreadPoolExecutor(3) as pool:
        for image in pool.map(open_and_run, range(9)):
            assert_alike(image, expected)


@pytest.mark.parametrize("kind", ["thread", "legacy stream"])
def test_another_library_uses_the_gpu_meanwhile(kind: str, target: str, built: Built) -> None:
    """It allocates, and copies on the legacy stream, all the time."""
    with Pipeline.open(built.root, target) as pipeline:
        expected = image_of(pipeline)
    stop, source = threading.Event(), np.zeros(1 << 16, np.uint8)
    to_device = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice

    def disturb() -> None:
        while not stop.is_set():
            address = checked(runtime.cudaMalloc(source.nbytes))
            if kind == "legacy stream":
                checked(runtime.cudaMemcpy(address, source.ctypes.data, source.nbytes, to_device))
            checked(runtime.cudaFree(address))

    with ThreadPoolExecutor(1) as pool:
        disturbed = pool.submit(disturb)
        try:
            for _ in range(3):
                with Pipeline.open(built.root, target) as pipeline:
                    for _ in range(3):
                        assert_alike(image_of(pipeline), expected)
        finally:
            stop.set()
        disturbed.result()


def test_without_memory_auto_goes_on_with_the_cpu(target: str, built: Built) -> None:
    with all_memory_taken(), Pipeline.open(built.root, "auto") as pipeline:
        stream = pipeline.stream(Request("a red circle", seed=1, num_inference_steps=1))
        for _ in stream:
            pass
        assert stream.result.engine.startswith(("cpu (after ", "openvino (after "))
    with Pipeline.open(built.root, target) as pipeline:
        image_of(pipeline)


@contextmanager
def all_memory_taken() -> Iterator[None]:
    """Nothing can be allocated on the GPU in the block."""
    addresses, size = [], 1 << 34
    while size >= 1 << 16:
        code, address = runtime.cudaMalloc(size)
        if int(code):
            runtime.cudaGetLastError()
            size //= 2
        else:
            addresses.append(address)
    try:
        yield
    finally:
        for address in addresses:
            runtime.cudaFree(address)


def test_closed_engines_leave_no_memory(target: str, built: Built) -> None:
    used = []
    for _ in range(4):
        with Pipeline.open(built.root, target) as pipeline:
            image_of(pipeline)
        gc.collect()
        free, total = checked_pair(runtime.cudaMemGetInfo())
        used.append(total - free)
    assert used[-1] <= used[0] + (8 << 20), used  # the libraries keep their own after the first


def checked_pair(result: tuple[Any, int, int]) -> tuple[int, int]:
    code, first, second = result
    assert not int(code)
    return first, second
