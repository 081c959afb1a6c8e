from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import sealed
from sdrt.errors import BundleError, SdrtError
from sdrt.targets.engines import open_engine
from sdrt_engines import EngineError
from support.bundle_folder import CONFIGS, SIGNATURES, write_bundle, write_json, write_onnx_folder

LATENTS = np.arange(16, dtype=np.float32).reshape(1, 4, 2, 2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_a_bundle_has_components(root: Path) -> None:
    bundle = Bundle.open(root)
    assert bundle.family.name == "stable-diffusion-1"
    assert bundle.component("unet").signature == SIGNATURES["unet"]
    assert bundle.has("unet")
    assert not bundle.has("vae_encoder")


def test_configurations(root: Path) -> None:
    bundle = Bundle.open(root)
    assert bundle.model_index == CONFIGS["model_index.json"]
    assert bundle.scheduler_config == CONFIGS["scheduler/scheduler_config.json"]
    assert bundle.component_config("text_encoder") == CONFIGS["text_encoder/config.json"]
    assert bundle.tokenizer_folder() == root / "tokenizer"


def test_a_configuration_may_hold_an_infinity(tmp_path: Path) -> None:
    """diffusers writes infinities for its DPM-Solvers, although JSON has none."""
    config = {"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -math.inf}
    root = write_onnx_folder(tmp_path / "folder")
    write_json(root / "scheduler/scheduler_config.json", config)
    assert Bundle.open(root).scheduler_config == config
    write_json(root / "scheduler/scheduler_config.json", {"beta_end": math.nan})
    with pytest.raises(BundleError, match="NaN is not JSON"):
        _ = Bundle.open(root).scheduler_config


def test_a_missing_component_is_reported_with_those_found(root: Path) -> None:
    bundle = Bundle.open(root)
    for use in (bundle.component, partial(open_engine, bundle), bundle.component_config):
        with pytest.raises(
            BundleError,
            match=r"no component 'vae_encoder' \(found: text_encoder, unet, vae_decoder",
        ):
            use("vae_encoder")


# --- files that differ from the manifest


def open_unet(bundle: Bundle) -> object:
    return open_engine(bundle, "unet")


def read_scheduler(bundle: Bundle) -> object:
    return bundle.scheduler_config


def find_tokenizer(bundle: Bundle) -> object:
    return bundle.tokenizer_folder()


@pytest.mark.parametrize(
    ("path", "use"),
    [
        ("unet/model.onnx", open_unet),
        ("scheduler/scheduler_config.json", read_scheduler),
        ("tokenizer/vocab.json", find_tokenizer),
    ],
)
def test_changed_files_are_refused(root: Path, path: str, use: Callable[[Bundle], object]) -> None:
    bundle, file = Bundle.open(root), root / path
    content = file.read_bytes()

    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError) as caught:
        use(bundle)
    assert str(caught.value).startswith(f"{file}: the file has changed: got sha256 ")
    assert str(caught.value).endswith(": export it again")

    file.write_bytes(content[:-1])
    with pytest.raises(BundleError) as caught:
        use(bundle)
    size = len(content)
    assert str(caught.value) == (f"{file}: got {size - 1} bytes, expected {size}: export it again")

    file.unlink()
    with pytest.raises(BundleError) as caught:
        use(bundle)
    assert str(caught.value) == f"{file}: this file of the bundle is missing: export it again"

    outside = root.parent / "outside"
    outside.write_bytes(content)
    file.symlink_to(outside)
    assert use(bundle)  # the hash protects, wherever the file lies
    outside.write_bytes(content[:-1] + b"?")
    with pytest.raises(BundleError, match=f"{file}: the file has changed: got sha256"):
        use(Bundle.open(root))


def test_a_manifest_cannot_point_outside(root: Path) -> None:
    manifest = root / "sdrt.json"
    document = json.loads(manifest.read_text().replace("unet/model.onnx", "../../model.onnx"))
    manifest.write_text(json.dumps(sealed(document)))
    with pytest.raises(BundleError) as caught:
        Bundle.open(root)
    assert str(caught.value).startswith(f"{root}: sdrt.json: components[1].files[0]: path: got")


def test_a_missing_tokenizer_is_named(root: Path) -> None:
    (root / "tokenizer/vocab.json").unlink()
    (root / "tokenizer").rmdir()
    with pytest.raises(BundleError, match="tokenizer: this folder of the bundle is missing"):
        find_tokenizer(Bundle.open(root))


# --- folders that are not bundles


def nothing(path: Path) -> None:
    pass


def a_file(path: Path) -> None:
    path.write_bytes(b"weights")


def a_checkpoint(path: Path) -> None:
    write_json(path / "model_index.json", CONFIGS["model_index.json"])
    write_json(path / "unet/config.json", {})


def a_broken_manifest(path: Path) -> None:
    write_bundle(path)
    (path / "sdrt.json").write_text("{")


def a_manifest_that_is_a_folder(path: Path) -> None:
    (path / "sdrt.json").mkdir(parents=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            nothing,
            "no bundle at '{}': create one with `sdrt export CHECKPOINT -o {}`, or use",
        ),
        (a_file, "'{}' is a file, expected a bundle's folder"),
        (Path.mkdir, "'{}' is not a bundle, it has neither sdrt.json nor model_index.json"),
        (a_checkpoint, "'{}' is a diffusers checkpoint, expected a bundle: create one with `sdrt"),
        (a_broken_manifest, "{}: sdrt.json: not valid JSON"),
        (a_manifest_that_is_a_folder, "{}/sdrt.json: cannot be read: Is a directory"),
    ],
)
def test_another_folder_is_reported_with_the_way_to_a_bundle(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "thing"
    make(path)
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    assert str(caught.value).startswith(message.replace("{}", str(path)))


def test_a_file_of_weights_is_inspected_first(tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    a_file(path)
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    assert str(caught.value) == (
        f"'{path}' is a file, expected a bundle's folder: `sdrt inspect {path}` shows the command "
        "that uses it"
    )


def test_a_hub_id_is_exported_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError) as caught:
        Bundle.open("runwayml/stable-diffusion-v1-5")
    assert str(caught.value).startswith(
        "no bundle at 'runwayml/stable-diffusion-v1-5': create one with `sdrt export "
        "runwayml/stable-diffusion-v1-5 -o bundle` from the checkpoint on the Hub, or use"
    )
    (tmp_path / "runwayml").mkdir()
    with pytest.raises(
        BundleError, match="create one with `sdrt export CHECKPOINT -o runwayml/gone`"
    ):
        Bundle.open("runwayml/gone")


# --- folders written by optimum


def test_an_onnx_folder_opens_without_a_manifest(tmp_path: Path) -> None:
    root = write_onnx_folder(tmp_path / "folder")
    (root / "unet/model.onnx_data").write_bytes(b"12345")
    bundle = Bundle.open(root)
    manifest, unet = bundle.manifest, bundle.component("unet")
    assert manifest.family.name == "stable-diffusion-1"
    assert [each.name for each in manifest.components] == sorted(SIGNATURES)
    assert {each.name: each.signature for each in manifest.components} == SIGNATURES
    assert (unet.model, unet.precision, unet.parity) == ("unet/model.onnx", "float32", None)
    assert [(file.path, file.sha256) for file in unet.files] == [
        ("unet/model.onnx", None),
        ("unet/model.onnx_data", None),
    ]
    assert unet.files[1].size == 5
    assert manifest.tools == {"diffusers": "0.39.0"}
    assert json.loads(manifest.to_json())["family"]["name"] == "stable-diffusion-1"
    with open_engine(bundle, "unet") as engine:
        np.testing.assert_array_equal(engine.run({"sample": LATENTS})["out_sample"], LATENTS)


def test_a_broken_network_of_an_onnx_folder_is_named(tmp_path: Path) -> None:
    root = write_onnx_folder(tmp_path / "folder")
    (root / "unet/model.onnx").write_bytes(b"version https://git-lfs")
    with pytest.raises(EngineError, match=r"unet/model\.onnx: not an ONNX model"):
        Bundle.open(root)


@pytest.mark.parametrize("path", [None, b"bundle", 5, []])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(BundleError, match=r"^bundle: got .*, expected the path of a bundle"):
        Bundle.open(path)


def test_a_bundle_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    """Such as one in a folder of another user; as root, only a name that is too long is refused."""
    root = tmp_path / ("x" * 300)
    with pytest.raises(BundleError, match=f"^'{root}' cannot be read: File name too long$"):
        Bundle.open(root)


@pytest.mark.parametrize("pipeline", ["FluxPipeline", "StableDiffusion3Pipeline", "DDPMPipeline"])
def test_other_families_are_refused_by_name(tmp_path: Path, pipeline: str) -> None:
    root = write_onnx_folder(tmp_path / "folder")
    write_json(root / "model_index.json", {"_class_name": pipeline})
    with pytest.raises(SdrtError, match=rf"model_index\.json: _class_name: got '{pipeline}'"):
        Bundle.open(root)


def test_a_folder_without_a_manifest_may_hold_builds(tmp_path: Path) -> None:
    """`sdrt build` writes into folders of optimum, too."""
    root = write_onnx_folder(tmp_path / "folder")
    (root / "engines/cpu").mkdir(parents=True)
    assert Bundle.open(root).has("unet")
