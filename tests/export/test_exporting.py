"""Whole exports: a bundle's contents, that it appears complete or not at all, and that it opens."""

import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import tiny_checkpoint
from sdrt.bundle.file_records import verify_file
from sdrt.bundle.folder import Bundle
from sdrt.errors import SdrtError
from sdrt_engines import signature_from_onnx
from sdrt_export.checkpoints.checkpoint import Checkpoint, checkpoint_from_source
from sdrt_export.errors import CheckpointError, ExportError
from sdrt_export.exporting import export_checkpoint
from sdrt_export.networks.loading import Part, parts_from_checkpoint

pytestmark = pytest.mark.export

FOLDERS = ["text_encoder", "unet", "vae_decoder", "vae_encoder"]
NETWORKS = ["text_encoder", "unet", "unet_controlled", "vae_decoder", "vae_encoder"]
NETS = ["controlnet_edges", "controlnet_depth"]


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_layout_is_optimum_s(half_bundle: Bundle) -> None:
    checkpoint, files = half_bundle.root.with_name("checkpoint"), files_of(half_bundle.root)
    assert files == {
        "sdrt.json",
        "model_index.json",
        "scheduler/scheduler_config.json",
        *(f"tokenizer/{path.name}" for path in (checkpoint / "tokenizer").iterdir()),
        *(f"{name}/config.json" for name in FOLDERS),
        *(f"{name}/model.onnx" for name in FOLDERS),
        "unet/controlled.onnx",
        *(f"{name}/model.onnx_data" for name in ("text_encoder", "unet")),
    }


def test_each_controlnet_is_a_folder_more(bundle: Path) -> None:
    added = {path for path in files_of(bundle) if path.startswith("controlnet")}
    kinds = ("config.json", "model.onnx")  # its tensors are too small for a data file
    assert added == {f"{name}/{kind}" for name in NETS for kind in kinds}
    assert Bundle.open(bundle).model_index.keys() & set(NETS) == set()


def test_the_manifest_describes_each_network(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    assert [component.name for component in manifest.components] == [*NETWORKS, *NETS]
    for component in manifest.components:
        assert component.signature == signature_from_onnx(bundle / component.model)
        assert component.precision == "float32"
        assert component.parity is not None
        assert component.parity.psnr > 110
        assert 0 < component.parity.max_abs < 1e-4


def test_the_manifest_names_the_source_of_the_bundle(bundle: Path, checkpoint: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    assert manifest.source == str(checkpoint)
    assert manifest.family.name == "stable-diffusion-1"
    assert manifest.tools["torch"] == torch.__version__
    assert manifest.tools.keys() >= {"sdrt", "diffusers", "transformers", "onnx", "onnxruntime"}
    assert manifest.defaults == {}


def test_every_file_is_recorded(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    records = {*manifest.files, *(f for c in manifest.components for f in c.files)}
    for record in records:
        assert record.sha256 is not None
        verify_file(bundle, record)
    assert sorted(record.path for record in records) == sorted(files_of(bundle) - {"sdrt.json"})


@pytest.mark.skipif(os.name != "posix", reason="Windows does not overwrite mapped files")
def test_networks_are_read_only_as_engines_map_them(bundle: Path) -> None:
    for component in Bundle.open(bundle).manifest.components:
        for record in component.files:
            assert stat.S_IMODE((bundle / record.path).stat().st_mode) == 0o444


def test_the_bundle_reads_what_the_checkpoint_says(bundle: Path, checkpoint: Path) -> None:
    opened = Bundle.open(bundle)
    scheduler = json.loads((checkpoint / "scheduler" / "scheduler_config.json").read_text())
    assert opened.scheduler_config == scheduler
    assert opened.family.latents.vae_scale_factor == 2
    assert opened.family.latents.scaling_factor == 0.18215
    assert opened.model_index["_class_name"] == "StableDiffusionPipeline"


@pytest.fixture(scope="module")
def half_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of a float16 checkpoint, named as diffusers' fp16 variant, with extra files."""
    folder = tmp_path_factory.mktemp("halves")
    checkpoint = tiny_checkpoint("v_prediction", folder / "checkpoint", torch.float16)
    for path in checkpoint.rglob("*.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors"))
    index = json.loads((checkpoint / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (checkpoint / "model_index.json").write_text(json.dumps(index))
    (checkpoint / "sdrt_defaults.json").write_text('{"guidance_scale": 3.5}')
    return Bundle.open(export_checkpoint(checkpoint, folder / "bundle"))  # "auto"


@pytest.mark.parametrize("name", NETWORKS)
def test_half_weights_of_a_half_checkpoint_lose_nothing(name: str, half_bundle: Bundle) -> None:
    component = half_bundle.component(name)
    assert component.precision == "float16"
    assert component.parity is not None
    assert component.parity.psnr > 110
    assert {spec.dtype for spec in component.signature.outputs} == {np.dtype(np.float32)}


def test_what_halves_would_change_is_stored_whole_unless_they_are_asked_for(
    checkpoint: Path, bundle: Path, tmp_path: Path
) -> None:
    whole = Bundle.open(bundle).manifest
    assert {component.precision for component in whole.components} == {"float32"}
    rounded = Bundle.open(export_checkpoint(checkpoint, tmp_path / "bundle", weights="fp16"))
    for component in rounded.manifest.components:
        assert component.precision == "float16"
        assert component.parity is not None
        assert 35 <= component.parity.psnr < 110


def test_float32_may_be_asked_for(half_bundle: Bundle, tmp_path: Path) -> None:
    checkpoint = half_bundle.root.with_name("checkpoint")
    whole = Bundle.open(export_checkpoint(checkpoint, tmp_path / "bundle", weights="fp32"))
    assert {component.precision for component in whole.manifest.components} == {"float32"}


def test_parts_that_were_not_exported_are_null_in_the_index(half_bundle: Bundle) -> None:
    assert half_bundle.model_index["safety_checker"] == [None, None]
    assert half_bundle.model_index["unet"] == ["diffusers", "UNet2DConditionModel"]


def test_a_checkpoint_may_bring_defaults(half_bundle: Bundle) -> None:
    assert half_bundle.manifest.defaults == {"guidance_scale": 3.5}


@pytest.fixture
def broken(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint whose text encoder exports, and whose UNet does not."""
    folder = shutil.copytree(checkpoint, tmp_path / "broken")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.bias"][0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    return folder


def test_a_failure_in_the_middle_leaves_nothing(broken: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="unet: torch itself gives NaN"):
        export_checkpoint(broken, tmp_path / "deep" / "bundle")
    assert list(tmp_path.iterdir()) == [broken]


def test_a_failure_leaves_the_old_bundle(broken: Path, bundle: Path, tmp_path: Path) -> None:
    old = shutil.copytree(bundle, tmp_path / "bundle")
    before = {path: path.stat().st_mtime_ns for path in old.rglob("*")}
    with pytest.raises(ExportError):
        export_checkpoint(broken, old, replace=True)
    assert {path: path.stat().st_mtime_ns for path in old.rglob("*")} == before
    assert sorted(tmp_path.iterdir()) == [broken, old]


def test_a_bundle_that_is_there_is_not_replaced_unasked(checkpoint: Path, bundle: Path) -> None:
    before = (bundle / "sdrt.json").read_bytes()
    with pytest.raises(
        SdrtError, match=r"already exists: choose another path, or replace it \(--replace\)"
    ):
        export_checkpoint(checkpoint, bundle)
    assert (bundle / "sdrt.json").read_bytes() == before


def part_of(checkpoint: Checkpoint, name: str) -> Part:
    """The part of the bundle with that name."""
    return next(part for part in parts_from_checkpoint(checkpoint) if part.name == name)


@pytest.mark.parametrize("name", ["text_encoder", "unet", "vae_decoder"])
@pytest.mark.parametrize(
    ("change", "message"),
    [("drop", "lacks 1 weights, the first is "), ("cut", "does not load: ")],
)
def test_weights_that_do_not_fit_are_never_made_up(
    name: str, change: str, message: str, checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    part = part_of(checkpoint_from_source(checkpoint), name)
    model = part.config.parent.name
    path = next((folder / model).glob("*.safetensors"))
    weights = load_file(path)
    weight = weights.pop(first := min(weights))
    if change == "cut":
        weights[first] = weight[:1].clone()
    save_file(weights, path, metadata={"format": "pt"})

    part = part_of(checkpoint_from_source(folder), name)
    with pytest.raises(CheckpointError, match=f"the {model} of '{folder}' {message}") as caught:
        part.weights()
    assert first.removeprefix("text_model.") in str(caught.value)
    with pytest.raises(CheckpointError, match=f"the {model} of '{folder}' {message}"):
        part.networks()
