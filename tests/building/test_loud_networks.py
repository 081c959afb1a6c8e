"""Networks whose activations do not fit float16: the demo's, with weights that make them so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdrt.arrays import psnr_of
from sdrt.bundle.folder import Bundle
from sdrt.families.family import Role
from sdrt.targets.built_graph import HalfGraph
from sdrt.targets.plan_record import read_record
from sdrt.verification.seeded_inputs import seeded_inputs
from sdrt_engines import Array, engine_from_onnx
from sdrt_engines.openvino_cpu import openvino_engine_from_onnx, openvino_refusal
from sdrt_export.building.probes import probe_cases
from sdrt_export.precision.check import MIN_PSNR, PrecisionReport, write_half
from sdrt_export.precision.policy import Rules, rules_for
from support.built_bundle import TARGET, build_for
from support.loud_networks import (
    QUERIES,
    half_outputs,
    largest_inside,
    rounded_outputs,
    write_loud,
)
from support.manifest_edits import edit_manifest, replace_recorded

pytestmark = pytest.mark.build

DEMO = Bundle.open("demo")
FITS = 65504.0  # float16's largest number
PLAIN, SCORES = Rules(), Rules(attention_scores=True)
# Factors that bring the activations to a million.
LOUD = {"vae_decoder": 3e4, "vae_encoder": 3e3, "text_encoder": 3e4}


def loud(name: str, folder: Path, *arguments: Any) -> Path:
    """A loud version of a network of the demo."""
    return write_loud(DEMO.root / DEMO.component(name).model, folder, *arguments)


def half_of(model: Path, folder: Path, rules: Rules, name: str) -> PrecisionReport:
    folder.mkdir()
    return write_half(model, folder, "fp16", rules, probe_cases(DEMO, name))


def worst(expected: dict[str, Array], got: dict[str, Array]) -> float:
    assert all(np.isfinite(array).all() for array in got.values())
    return min(psnr_of(expected[name], got[name]) for name in expected)


def run(model: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    with engine_from_onnx(model, num_threads=1) as engine:
        return engine.run(feeds)


@pytest.mark.parametrize("name", LOUD)
def test_activations_that_overflow_stay_float32(tmp_path: Path, name: str) -> None:
    model = loud(name, tmp_path / "loud", LOUD[name])
    feeds = seeded_inputs(DEMO, name, latents=12, seed=1)  # others than the search has seen
    assert largest_inside(model, feeds) > 10 * FITS
    plain = half_outputs(model, tmp_path / "plain", PLAIN, feeds)
    assert not all(np.isfinite(array).all() for array in plain.values())
    report = half_of(model, tmp_path / "half", PLAIN, name)
    assert report.precision == "fp16"
    assert report.promoted
    got = rounded_outputs(tmp_path / "half" / "model.onnx", feeds)
    assert worst(run(model, feeds), got) >= MIN_PSNR


def test_activations_that_only_just_fit_stay_float32(tmp_path: Path) -> None:
    name = "vae_decoder"
    model = loud(name, tmp_path / "loud", 700)
    noise, areas = probe_cases(DEMO, name)
    assert largest_inside(model, noise) < largest_inside(model, areas) < FITS
    louder = {key: 3 * array for key, array in areas.items()}
    plain = half_outputs(model, tmp_path / "plain", PLAIN, louder)
    assert not np.isfinite(plain["sample"]).all()
    half_of(model, tmp_path / "half", PLAIN, name)
    got = rounded_outputs(tmp_path / "half" / "model.onnx", louder)
    assert worst(run(model, louder), got) >= MIN_PSNR


@pytest.mark.parametrize(("name", "factor"), [("unet", 1e4), ("text_encoder", 1e3)])
def test_attention_scores_that_overflow_stay_float32(
    tmp_path: Path, name: str, factor: float
) -> None:
    """Although the graph divides the queries by √d, not the scores."""
    model = loud(name, tmp_path / "loud", factor, QUERIES)
    feeds = probe_cases(DEMO, name)[0]
    plain = half_outputs(model, tmp_path / "plain", PLAIN, feeds)
    assert not all(np.isfinite(array).all() for array in plain.values())
    scores = half_outputs(model, tmp_path / "scores", SCORES, feeds)
    assert worst(run(model, feeds), scores) >= MIN_PSNR


def test_the_search_finds_attention_scores_that_overflow(tmp_path: Path) -> None:
    model = loud("text_encoder", tmp_path / "loud", 1e3, QUERIES)
    report = half_of(model, tmp_path / "half", PLAIN, "text_encoder")
    assert (report.precision, report.promoted != ()) == ("fp16", True)
    feeds = seeded_inputs(DEMO, "text_encoder", seed=1)
    got = rounded_outputs(tmp_path / "half" / "model.onnx", feeds)
    assert worst(run(model, feeds), got) >= MIN_PSNR


@pytest.mark.parametrize("role", ["denoiser", "controlnet"])
def test_upcast_attention_keeps_scores_float32(role: Role) -> None:
    for family in ("stable-diffusion-1", "stable-diffusion-xl"):
        assert rules_for(family, role, {"upcast_attention": True}) == SCORES
        assert rules_for(family, role, {"upcast_attention": False}) == PLAIN
    assert rules_for("stable-diffusion-2", role, {"upcast_attention": False}) == SCORES


@pytest.mark.parametrize("role", ["vae decoder", "vae encoder"])
@pytest.mark.parametrize("family", ["stable-diffusion-xl", "stable-diffusion-xl-refiner"])
def test_a_vae_of_sdxl_is_float32_unless_its_configuration_says_otherwise(
    family: str, role: Role
) -> None:
    for config in ({}, {"force_upcast": True}, {"force_upcast": None}):
        assert "force_upcast" in str(rules_for(family, role, config).everything)
    assert rules_for(family, role, {"force_upcast": False}) == PLAIN
    assert rules_for("stable-diffusion-1", role, {"force_upcast": True}) == PLAIN


@pytest.fixture(scope="module")
def as_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo bundle, as one of SDXL with a loud VAE."""
    folder = tmp_path_factory.mktemp("sdxl")
    root = folder / "demo"
    shutil.copytree(DEMO.root, root, ignore=shutil.ignore_patterns("engines"))
    for name in ("vae_decoder", "vae_encoder"):
        written = loud(name, folder / name, LOUD[name]).parent
        for path in written.iterdir():
            replace_recorded(root, f"{name}/{path.name}", path.read_bytes())
    edit_manifest(root, lambda fields: fields["family"].update(name="stable-diffusion-xl"))
    return root


@pytest.mark.parametrize("name", ["vae_decoder", "vae_encoder"])
def test_a_build_says_why_a_vae_is_float32(as_sdxl: Path, name: str) -> None:
    lines: list[str] = []
    build_for("cuda", as_sdxl, components=(name,), report=lines.append)
    bundle = Bundle.open(as_sdxl)
    graph = HalfGraph.of(as_sdxl, "cuda", bundle.component(name))
    assert graph is not None
    assert (graph.precision, graph.psnr) == ("fp32", None)
    assert "force_upcast" in str(graph.reason)
    assert f"{name}: stays float32: {graph.reason}" in lines
    feeds = probe_cases(bundle, name)[0]
    assert worst(run(as_sdxl / name / "model.onnx", feeds), run(as_sdxl / graph.model, feeds)) > 90


def test_a_plan_s_record_says_why_it_is_float32(as_sdxl: Path) -> None:
    (plan,) = build_for(TARGET, as_sdxl, components=("vae_encoder",))
    record = read_record(plan.with_suffix(".json"))
    assert record.ingredients.precision == "fp32"
    assert "force_upcast" in str(record.reason)


def test_without_force_upcast_a_vae_is_float16_as_far_as_it_can_be(
    as_sdxl: Path, tmp_path: Path
) -> None:
    name = "vae_encoder"
    ignored = shutil.ignore_patterns("engines")
    root = Path(shutil.copytree(as_sdxl, tmp_path / "demo", ignore=ignored))
    path = f"{name}/config.json"
    config = json.loads((root / path).read_text()) | {"force_upcast": False}
    replace_recorded(root, path, json.dumps(config).encode())
    build_for("cuda", root, components=(name,))
    graph = HalfGraph.of(root, "cuda", Bundle.open(root).component(name))
    assert graph is not None
    assert (graph.precision, graph.reason) == ("fp16", None)
    assert graph.promoted
    assert graph.psnr is not None
    assert graph.psnr >= MIN_PSNR


@pytest.mark.skipif(
    openvino_refusal("bf16") is not None, reason=openvino_refusal("bf16") or "it opens"
)
@pytest.mark.parametrize("name", ["vae_decoder", "vae_encoder"])
def test_openvino_in_bfloat16_does_not_overflow(tmp_path: Path, name: str) -> None:
    model = loud(name, tmp_path / "loud", LOUD[name])
    feeds = seeded_inputs(DEMO, name, latents=12, seed=1)
    with openvino_engine_from_onnx(model, precision="bf16", num_threads=1) as engine:
        assert worst(run(model, feeds), engine.run(feeds)) >= MIN_PSNR
