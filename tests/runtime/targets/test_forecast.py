"""The sum of needs of memory, and the rows that fit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sdrt import Bundle, Forecast
from sdrt.bundle.demo import DEMO_FOLDER
from sdrt.families.activations import NO_ACTIVATIONS, Activations
from sdrt.families.family import LatentSpace
from sdrt.targets.forecast import (
    Need,
    NetworkMemory,
    NetworkRun,
    Plan,
    Work,
    forecast_of,
    growth,
    growth_by_stage,
    memory_text,
    network_memory,
    out_of_memory,
)
from sdrt_engines import BACKENDS, FreeMemory, Signature, Target, backend_of
from sdrt_engines.onnx_weights import share_in_convolutions
from support.onnx_writer import onnx_model, spec

TEXT = Need("text_encoder", opening=30, weights=20, running=21)
UNET = Need("unet", opening=170, weights=110, running=300)
VAE = Need("vae_decoder", opening=15, weights=10, running=90)
RUNS = (NetworkRun("text_encoder", 1, 10), NetworkRun("unet", 8, 10), NetworkRun("vae", 1, 10))
MEMORIES = {
    "text_encoder": NetworkMemory(weights=20),
    "unet": NetworkMemory(200, 100, activations=Activations(1, 2)),
    "vae": NetworkMemory(weights=10, mapped=5, activations=Activations(9, 0)),
}


def forecast(size: int, **held: int) -> Forecast:
    return forecast_of(Target("cpu"), MEMORIES, [[RUNS]], held, FreeMemory(size, "of a test"))


def test_networks_keep_the_memory_of_their_runs() -> None:
    assert growth([TEXT, UNET, VAE], {}) == 21 + 300 + 90


def test_opening_may_take_the_most() -> None:
    small = Need("unet", opening=170, weights=110, running=112)
    assert growth([TEXT, small], {}) == 20 + 170
    assert growth([TEXT, small], {"unet": 110, "text_encoder": 20}) == 1 + 2  # both are open


def test_memory_that_is_held_is_not_needed_again() -> None:
    assert growth([TEXT, UNET, VAE], {"text_encoder": 21, "unet": 250}) == 50 + 90
    assert growth([UNET], {"unet": 400}) == 0


def test_a_run_takes_maps_or_scores() -> None:
    memory = NetworkMemory(activations=Activations(1000, 2))
    assert memory.of_run(NetworkRun("unet", 3, 10)) == 3 * 10 * 1000
    assert memory.of_run(NetworkRun("unet", 3, 1000)) == 3 * 1000 * 1000 * 2


def test_the_vae_runs_on_one_tile_at_once() -> None:
    vae = ("vae_encoder", "vae_decoder")
    whole = Work({"unet": 2, "vae_encoder": 1}, (1024, 256), LatentSpace(4, 8, 1.0), vae)
    assert positions(whole) == {"unet": 128 * 32, "vae_encoder": 128 * 32}
    tiled = replace(whole, tile=64)
    assert positions(tiled) == {"unet": 128 * 32, "vae_encoder": 64 * 32}
    smaller = replace(whole, smaller_tiles=(64, 16)).in_smaller_tiles
    assert [positions(work)["vae_encoder"] for work in smaller] == [64 * 32, 16 * 16]


def positions(work: Work) -> dict[str, int]:
    return {run.component: run.positions for run in work.runs}


def test_as_many_rows_as_fit_run_at_once() -> None:
    rest = 20 + 100 + 10 + 90  # and 200 for each row of the UNet
    assert (forecast(rest + 1600).rows, forecast(rest + 1599).rows) == (8, 4)
    assert (forecast(rest + 799).rows, forecast(rest + 200).rows) == (2, 1)
    too_little = forecast(rest + 199)
    assert (too_little.fits, too_little.rows, too_little.num_rows) == (False, 1, 8)
    assert too_little.further == rest + 200
    assert forecast(rest + 1400, unet=300).rows == 8


def test_weights_that_stay_in_their_file_are_in_the_peak_but_need_no_free_memory() -> None:
    found = forecast(10**6)
    assert found.mapped == 5
    assert found.peak == found.further + 5 + 100 * 2**20


def test_without_a_limit_everything_fits() -> None:
    found = forecast_of(Target("cpu"), MEMORIES, [[RUNS]], {}, None)
    assert found.fits
    assert found.rows == 8


def test_the_error_says_what_to_do() -> None:
    error = out_of_memory("9×9 pixels", forecast(100), ["take 8×8", "use target cuda"])
    assert str(error) == (
        "9×9 pixels on target cpu: expected to take 0 MiB of memory, but 0 MiB are free of a test: "
        "take 8×8 or use target cuda (SDRT_MEMORY_LIMIT=off tries it anyway)"
    )
    assert "close other programs" in str(out_of_memory("unet", forecast(100)))


def test_sizes_in_words() -> None:
    assert memory_text(310 * 2**20) == "310 MiB"
    assert memory_text(7_600 * 2**30) == "7,600.0 GiB"


def test_a_network_without_a_known_configuration_has_no_activations(bundle: Bundle) -> None:
    memory = network_memory(bundle, bundle.component("unet"), Target("cpu"))
    assert memory.activations == NO_ACTIVATIONS
    assert memory.weights > 0


def test_weights_of_convolutions_in_half_precision_are_held_twice_while_opening() -> None:
    demo = Bundle.open("demo")
    unet = demo.component("unet")
    assert unet.precision == "float16"
    half = network_memory(demo, unet, Target("cpu"))
    single = network_memory(demo, replace(unet, precision="float32"), Target("cpu"))
    assert single.opening / single.weights == pytest.approx(1.15 / 1.1, rel=1e-3)
    share = share_in_convolutions(demo.root / unet.model)
    assert 0 < share < 1
    assert half.opening / half.weights == pytest.approx((1.15 + share) / 1.1, rel=1e-3)
    missing = replace(unet, model="a.onnx", files=(replace(unet.files[0], path="a.onnx"),))
    assert network_memory(demo, missing, Target("cpu")).opening < half.opening


def test_fused_attention_has_no_scores() -> None:
    demo = Bundle.open("demo")
    unet = demo.component("unet")
    fused = network_memory(demo, unet, Target("cpu")).activations
    assert (fused.feature_map > 0, fused.scores) == (True, 0)


@pytest.mark.parametrize("operator", ["Softmax", "Relu", None])
def test_attention_that_is_not_fused_has_scores(operator: str | None, tmp_path: Path) -> None:
    """As in a folder of optimum; a file that is broken or missing is reported when it opens."""
    root = Path(shutil.copytree(DEMO_FOLDER, tmp_path / "demo"))
    demo = Bundle.open(root)
    unet = demo.component("unet")
    (root / unet.model).unlink()
    if operator is not None:
        signature = Signature((spec("x", "float32", 8),), (spec("y", "float32", 8),))
        (root / unet.model).write_bytes(onnx_model(signature, [(operator, ["x"], ["y"])]))
    scores = network_memory(demo, unet, Target("cpu")).activations.scores
    assert (scores > 0) == (operator == "Softmax")


def test_openvino_maps_the_weights_as_they_are_stored() -> None:
    bundle = Bundle.open("demo")
    unet = bundle.component(bundle.name_of("denoiser"))
    stored = sum(file.size for file in unet.files)
    memories = [network_memory(bundle, unet, Target(*name)) for name in (("openvino",), ("cpu",))]
    assert [memory.mapped for memory in memories] == [stored, 0]


def test_every_backend_that_runs_networks_knows_its_memory(bundle: Bundle) -> None:
    decoder = bundle.component("vae_decoder")
    for backend in BACKENDS:
        memory = network_memory(bundle, decoder, Target(backend.name))
        known = backend_of(Target(backend.name)).memory is not None
        assert known == (backend.runs != "plans") == (memory.activations != NO_ACTIVATIONS)


def by_stage(size: int, **held: int) -> Forecast:
    plans: list[Plan] = [[RUNS], [[run] for run in RUNS]]
    return forecast_of(Target("cpu"), MEMORIES, plans, held, FreeMemory(size, "of a test"))


def test_networks_that_do_not_fit_together_are_open_one_stage_at_a_time() -> None:
    together = 20 + 100 + 10 + 90 + 200  # with one row of the UNet at a time
    assert (by_stage(together).by_stage, by_stage(together).rows) == (False, 1)
    found = by_stage(together - 1)
    assert (found.by_stage, found.rows, found.fits) == (True, 1, True)
    assert found.further == 100 + 200  # the UNet
    assert found.peak == found.further + 100 * 2**20 + 5
    assert not by_stage(299).fits


def test_a_stage_can_take_what_others_hold() -> None:
    held = {"text_encoder": 20, "vae": 100, "controlnet": 30}
    assert by_stage(150, **held).further == 300 - 150
    assert by_stage(0, **held, unet=300).further == 0
    assert growth_by_stage([[TEXT], [UNET]], {"unet": 310, "vae": 90}) == 0
