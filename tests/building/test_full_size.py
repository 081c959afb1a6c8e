"""Networks at full size, built for three generations of RTX cards: minutes, 30 GB of disk."""

from pathlib import Path

import numpy as np
import pytest

from sdrt.bundle.folder import Bundle
from sdrt.targets.plan_record import PlanRecord, read_record
from sdrt.verification.seeded_inputs import seeded_inputs
from sdrt_engines import engine_from_onnx
from sdrt_export.building.probes import probe_cases
from sdrt_export.precision.check import MIN_PSNR, psnr_within, write_half
from sdrt_export.precision.policy import Rules
from support.built_bundle import build_for
from support.loud_networks import half_outputs, largest_inside, rounded_outputs, write_loud

pytestmark = pytest.mark.full

TARGET = "tensorrt-rtx:sm86,sm89,sm120"
GIB = 2**30


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Stable Diffusion 1.5 with a ControlNet."""
    from sdrt_export.exporting import export_checkpoint
    from sdrt_export.synthetic import make_checkpoint, make_controlnet

    folder = tmp_path_factory.mktemp("sd15")
    checkpoint = make_checkpoint(folder / "checkpoint")
    make_controlnet(checkpoint / "controlnet_edges")
    return Bundle.open(export_checkpoint(checkpoint, folder / "bundle"))


def test_sd15_builds_without_a_gpu(sd15: Bundle) -> None:
    records = built(sd15)
    assert len(records) == len(sd15.manifest.components) == 6
    for record in records.values():
        assert_is_half(sd15, record)
        assert record.build["peak_memory"] < 10 * GIB


@pytest.mark.parametrize("name", ["vae_decoder", "vae_encoder"])
def test_a_vae_that_overflows_is_half_as_far_as_it_can_be(
    tmp_path: Path, sd15: Bundle, name: str
) -> None:
    """SDXL's VAE has the same architecture."""
    model = write_loud(sd15.root / sd15.component(name).model, tmp_path / "loud", 1e5)
    feeds = seeded_inputs(sd15, name, latents=12, seed=1)
    assert largest_inside(model, feeds) > 1e5
    plain = half_outputs(model, tmp_path / "plain", Rules(), feeds)
    assert not all(np.isfinite(array).all() for array in plain.values())
    report = write_half(model, tmp_path, "fp16", Rules(), probe_cases(sd15, name))
    assert report.precision == "fp16"
    assert report.promoted
    with engine_from_onnx(model) as engine:
        expected = engine.run(feeds)
    got = rounded_outputs(tmp_path / "model.onnx", feeds)
    assert min(psnr_within(expected[output], got[output]) for output in expected) >= MIN_PSNR


def test_sdxl_builds_without_a_gpu(tmp_path: Path) -> None:
    from sdrt_export.architectures import SDXL
    from sdrt_export.exporting import export_checkpoint
    from sdrt_export.synthetic import make_checkpoint

    checkpoint = make_checkpoint(tmp_path / "checkpoint", SDXL)
    bundle = Bundle.open(export_checkpoint(checkpoint, tmp_path / "bundle"))
    for name in ("text_encoder", "text_encoder_2", "unet"):
        (record,) = built(bundle, name).values()
        assert_is_half(bundle, record)
        assert record.build["peak_memory"] < 20 * GIB
    for name in ("vae_decoder", "vae_encoder"):
        (record,) = built(bundle, name).values()
        assert record.ingredients.precision == "fp32"
        assert "force_upcast" in str(record.reason)


def built(bundle: Bundle, *components: str) -> dict[str, PlanRecord]:
    """The records of the networks' plans, by name; all networks by default."""
    plans = build_for(TARGET, bundle.root, components=components)
    records = [read_record(plan.with_suffix(".json")) for plan in plans]
    return {record.ingredients.component: record for record in records}


def assert_is_half(bundle: Bundle, record: PlanRecord) -> None:
    assert record.ingredients.architectures == ("sm120", "sm86", "sm89")
    assert record.ingredients.precision == "fp16"
    assert record.psnr is not None
    assert record.psnr >= 40
    component = bundle.component(record.ingredients.component)
    stored = sum(file.size for file in component.files)
    halves = stored / 2 if component.precision == "float32" else stored
    assert 0.9 * halves < record.plan.size < 1.02 * halves + 200e6
