"""Runs plans on a GPU. Not run yet: there is no GPU where this was written."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt.arrays import psnr_of
from sdrt.bundle.folder import Bundle
from sdrt.files.cache import cache_folder
from sdrt.targets.engines import open_engine
from sdrt_engines import DeviceArray, EngineError
from sdrt_engines.cuda_device import gpu_architecture
from sdrt_export.building.graph_folder import probe_inputs
from support.built_bundle import Built, build_for

pytestmark = [pytest.mark.build, pytest.mark.gpu]

TARGET = "tensorrt-rtx"


@pytest.fixture(scope="module")
def bundle(built: Built) -> Bundle:
    """Plans for this machine's GPU."""
    shapes = ("64x64", "64x64..128x128")
    build_for(f"{TARGET}:{gpu_architecture()}", built.root, batch="1..2", shapes=shapes)
    return built.bundle


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
