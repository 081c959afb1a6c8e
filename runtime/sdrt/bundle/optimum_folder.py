"""Folders of ONNX files without a manifest, as `optimum-cli export onnx` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sdrt.bundle.manifest import Component, FileRecord, Manifest
from sdrt.errors import BundleError
from sdrt.files.json_fields import JsonFields, within
from sdrt_engines import signature_from_onnx

MODEL_INDEX = "model_index.json"
MODEL_NAME = "model.onnx"
CONTROLLED_NAME = "controlled.onnx"  # beside it: the UNet that takes the residuals of ControlNets


def manifest_from_folder(root: Path) -> Manifest:
    """What the files in `root` tell. Hashes and parity stay unknown: nobody took them down.

    BundleError when a configuration is broken or the family is none that sdrt knows.
    """
    index_path, unet_path = root / MODEL_INDEX, root / "unet" / "config.json"
    index = fields_from_file(index_path)
    unet = fields_from_file(unet_path).values if unet_path.exists() else {}
    with within(str(index_path)):
        family = family_from_configs(index.text("_class_name"), unet)
        diffusers = index.text("_diffusers_version", default="unknown")
    return Manifest(
        family=family,
        components=tuple(
            _component_from_file(root, name, model)
            for folder in onnx_folders(root)
            for name, model in (
                (folder.name, folder / MODEL_NAME),
                (f"{folder.name}_controlled", folder / CONTROLLED_NAME),
            )
            if model.exists()
        ),
        files=(),
        source="unknown (a folder of ONNX files without sdrt.json)",
        tools={"diffusers": diffusers},
        created=datetime.fromtimestamp(index_path.stat().st_mtime, UTC).isoformat(),
    )


def onnx_folders(root: Path) -> list[Path]:
    """The subfolders that hold a network."""
    return sorted(path.parent for path in root.glob(f"*/{MODEL_NAME}"))


def family_from_configs(pipeline_class: str, unet_config: Mapping[str, Any]) -> str:
    """`stable-diffusion-1`, `-2` or `-xl`: from diffusers' pipeline class and UNet config."""
    name = pipeline_class.removeprefix("ORT").removeprefix("Onnx")
    if name.startswith("StableDiffusionXL"):
        return "stable-diffusion-xl"
    known = name.startswith(("StableDiffusion", "LatentConsistencyModel"))
    if not known or name.startswith("StableDiffusion3"):
        raise BundleError(
            f"_class_name: got '{pipeline_class}', expected a pipeline of Stable Diffusion 1, 2 or "
            "XL: sdrt does not run this family"
        )
    # CLIP ViT-L/14 of version 1 is 768 wide, OpenCLIP ViT-H/14 of version 2 is 1024 wide
    is_version_2 = unet_config.get("cross_attention_dim") == 1024
    return "stable-diffusion-2" if is_version_2 else "stable-diffusion-1"


def fields_from_file(path: Path) -> JsonFields:
    """The JSON object in the configuration at `path`.

    An infinity may stand in it: diffusers writes `"lambda_min_clipped": -Infinity`.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    with within(str(path)):
        return JsonFields.parse(text, infinities=True)


def _component_from_file(root: Path, name: str, model: Path) -> Component:
    signature = signature_from_onnx(model)
    beside = (
        path for path in sorted(model.parent.iterdir()) if path.suffix not in (".json", ".onnx")
    )
    return Component(
        name=name,
        model=model.relative_to(root).as_posix(),
        signature=signature,
        precision=next(
            (spec.dtype.name for spec in signature.outputs if spec.dtype.kind == "f"), "unknown"
        ),
        files=tuple(
            FileRecord(path.relative_to(root).as_posix(), None, path.stat().st_size)
            for path in (model, *beside)
            if path.is_file()
        ),
        parity=None,
    )
