"""Folders of ONNX files without a manifest, as written by `optimum-cli export onnx`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sdrt import tensor_names as names
from sdrt.bundle.file_records import require_in_place
from sdrt.bundle.manifest import Component, FileRecord, Manifest
from sdrt.errors import BundleError
from sdrt.families.family import Role
from sdrt.families.known import ROLES, Reader, family_from_configs
from sdrt.files.json_fields import JsonFields, within
from sdrt_engines import signature_from_onnx
from sdrt_engines.regular_file import read_regular

MODEL_INDEX = "model_index.json"
MODEL_NAME = "model.onnx"
CONTROLLED_NAME = "controlled.onnx"  # next to the UNet: its variant with ControlNets' residuals


def manifest_from_folder(root: Path) -> Manifest:
    """The manifest of the files in `root`, without hashes and parity, which were not recorded.

    BundleError for a broken configuration or a family that sdrt does not run.
    """
    index_path = root / MODEL_INDEX
    for path in (index_path, *root.glob("*/config.json")):
        require_in_place(root, path)
    family = family_from_configs(configs_of(root, vae="vae_decoder"))
    index = fields_from_file(index_path)
    with within(str(index_path)):
        diffusers = index.text("_diffusers_version", default="unknown")
    return Manifest(
        family=family,
        components=tuple(_components(root)),
        files=(),
        source="unknown (a folder of ONNX files without sdrt.json)",
        tools={"diffusers": diffusers},
        created=datetime.fromtimestamp(index_path.stat().st_mtime, UTC).isoformat(),
    )


def lost_manifest(root: Path) -> str | None:
    """A sign that sdrt exported the folder, which then had a manifest; None for optimum's."""
    signs = (f"*/{CONTROLLED_NAME}", f"{names.controlnet('*')}/{MODEL_NAME}")
    for path in (path for sign in signs for path in sorted(root.glob(sign))):
        return path.relative_to(root).as_posix()
    for folder in onnx_folders(root):
        if folder.name in ROLES and ROLES[folder.name] == "text encoder":
            outputs = {spec.name for spec in signature_from_onnx(folder / MODEL_NAME).outputs}
            if names.normed_hidden_state(0) in outputs:
                return f"the output {names.normed_hidden_state(0)} of {folder.name}"
    return None


_CONFIGS = {"model_index": MODEL_INDEX, "scheduler": "scheduler/scheduler_config.json"}


def configs_of(root: Path, *, vae: str = "vae") -> Reader:
    """A reader of the configurations in a folder with its VAE in the subfolder `vae`."""

    def read(part: str) -> tuple[str, JsonFields]:
        folder = vae if part == "vae" else part
        path = root / _CONFIGS.get(part, f"{folder}/config.json")
        return str(path), fields_from_file(path)

    return read


def onnx_folders(root: Path) -> list[Path]:
    """The subfolders that contain a network."""
    return sorted(path.parent for path in root.glob(f"*/{MODEL_NAME}"))


def fields_from_file(path: Path) -> JsonFields:
    """The JSON object in the configuration at `path`.

    Infinity is allowed: diffusers writes `"lambda_min_clipped": -Infinity`.
    """
    try:
        text = read_regular(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    with within(str(path)):
        return JsonFields.parse(text, infinities=True)


def _components(root: Path) -> Iterator[Component]:
    """The networks in the folders with known names."""
    for folder in onnx_folders(root):
        if folder.name not in ROLES:
            continue
        yield _component_from_file(root, folder.name, folder / MODEL_NAME, ROLES[folder.name])


def _component_from_file(root: Path, name: str, model: Path, role: Role) -> Component:
    require_in_place(root, model)
    signature = signature_from_onnx(model)
    others = (
        path for path in sorted(model.parent.iterdir()) if path.suffix not in (".json", ".onnx")
    )
    return Component(
        name=name,
        role=role,
        model=model.relative_to(root).as_posix(),
        signature=signature,
        precision=next(
            (spec.dtype.name for spec in signature.outputs if spec.dtype.kind == "f"), "unknown"
        ),
        files=tuple(
            FileRecord(path.relative_to(root).as_posix(), None, path.stat().st_size)
            for path in (model, *others)
            if path.is_file()
        ),
    )
