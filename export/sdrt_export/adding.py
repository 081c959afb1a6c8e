"""ControlNets added to an existing bundle."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from sdrt import tensor_names as names
from sdrt.bundle.demo import is_demo
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import MANIFEST_NAME, RESIDUALS, write_manifest
from sdrt.bundle.writing import only_writer
from sdrt.files.atomic import changed_folder
from sdrt.files.json_fields import JsonFields
from sdrt_export.checkpoints.controlnet import Sources, controlnets_from_sources
from sdrt_export.checkpoints.controlnet_compatibility import Host
from sdrt_export.checkpoints.parts import kind_of_family
from sdrt_export.components import components_of_controlnets
from sdrt_export.errors import ExportError
from sdrt_export.manifests import manifest_with
from sdrt_export.options import WeightStorage
from sdrt_export.progress import WAITING, shown_progress
from sdrt_export.replacing import files_of_controlnets, in_free_folder


def add_controlnets(
    bundle: str | PathLike[str],
    controlnets: Sources,
    *,
    replace: bool = False,
    weights: WeightStorage = "auto",
) -> Path:
    """Exports ControlNets, folders or Hub ids by name, into a bundle; its other files stay.

    The bundle changes if all of them agree with torch, or not at all. Returns its path. Raises
    CheckpointError and ExportError as `export_checkpoint` does; BundleError if there is no bundle;
    ExportError if it has no controlled UNet, or already has a ControlNet of that name (unless
    `replace`).
    """
    _require_room(Bundle.open(Path(bundle)), controlnets, replace)
    with shown_progress() as report, only_writer(Path(bundle), lambda: report(WAITING)):
        opened = Bundle.open(Path(bundle))  # again: another export may just have changed it
        _require_room(opened, controlnets, replace)
        added = controlnets_from_sources(controlnets, _host_of(opened))
        replaced = files_of_controlnets(opened.manifest, controlnets)
        with changed_folder(opened.root, last=MANIFEST_NAME, obsolete=replaced) as draft:
            exported = tuple(components_of_controlnets(added, draft, weights, report))
            components = [in_free_folder(component, draft, opened.root) for component in exported]
            write_manifest(draft, manifest_with(opened.manifest, components, replaced, draft))
    return Path(bundle)


def _host_of(bundle: Bundle) -> Host:
    unet = JsonFields(bundle.component_config(bundle.name_of("denoiser")))
    kind = kind_of_family(bundle.family.name)
    return Host(unet, bundle.family.latents.vae_scale_factor, kind)


def _require_room(bundle: Bundle, controlnets: Iterable[str], replace: bool) -> None:
    """ExportError if the bundle cannot take ControlNets of these names."""
    if is_demo(bundle.root):
        raise ExportError(
            f"'{bundle.root}' is the built-in bundle and stays as it is: copy the folder, and add "
            "to the copy"
        )
    if bundle.find("denoiser", RESIDUALS) is None or not (bundle.root / MANIFEST_NAME).exists():
        raise ExportError(
            f"'{bundle.root}' has no UNet for ControlNets (it was made by an older sdrt or by "
            "optimum): export its checkpoint again"
        )
    for name in controlnets:
        if bundle.has(names.controlnet(name)) and not replace:
            raise ExportError(
                f"'{bundle.root}' already has a ControlNet '{name}': choose another name, "
                "or replace it (--replace)"
            )
