"""Models added to an existing bundle: ControlNets, a tiny VAE, embeddings."""

from __future__ import annotations

import dataclasses
from os import PathLike
from pathlib import Path

from sdrt import tensor_names as names
from sdrt.bundle.demo import is_demo
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import MANIFEST_NAME, RESIDUALS, write_manifest
from sdrt.bundle.writing import only_writer
from sdrt.files.atomic import changed_folder
from sdrt.files.json_fields import JsonFields
from sdrt_export.adding_embeddings import (
    files_of_encoders,
    tokens_for_bundle,
    write_extended_encoders,
)
from sdrt_export.checkpoints.controlnet import NO_CONTROLNETS, Sources, controlnets_from_sources
from sdrt_export.checkpoints.controlnet_compatibility import Host
from sdrt_export.checkpoints.embeddings import (
    EmbeddingSources,
    embeddings_from_sources,
    records_of,
)
from sdrt_export.checkpoints.model_folder import Source
from sdrt_export.checkpoints.parts import kind_of_family
from sdrt_export.checkpoints.vae import tiny_vae_from_source
from sdrt_export.components import Additions, components_of_additions
from sdrt_export.errors import ExportError
from sdrt_export.manifests import manifest_with
from sdrt_export.options import WeightStorage
from sdrt_export.progress import WAITING, shown_progress
from sdrt_export.replacing import files_of_networks, in_free_folder

_TINY_VAE = (names.TINY_VAE_DECODER, names.TINY_VAE_ENCODER)


def add_to_bundle(
    bundle: str | PathLike[str],
    *,
    controlnets: Sources = NO_CONTROLNETS,
    tiny_vae: Source | None = None,
    embeddings: EmbeddingSources = (),
    replace: bool = False,
    weights: WeightStorage = "auto",
) -> Path:
    """Exports ControlNets and a tiny VAE (folders, files or Hub ids) and embeddings into a bundle.
    Its other files stay, except those of text encoders, which embeddings extend.

    The bundle changes if all of them agree with torch, or not at all. Returns its path. Raises
    CheckpointError and ExportError as `export_checkpoint` does; BundleError if there is no bundle;
    ExportError if it has no controlled UNet, or already has such a model (unless `replace`).
    """
    opened_embeddings = embeddings_from_sources(embeddings)
    tiny = () if tiny_vae is None else _TINY_VAE
    networks = (*map(names.controlnet, controlnets), *tiny)
    _require_room(Bundle.open(Path(bundle)), networks, replace)
    with shown_progress() as report, only_writer(Path(bundle), lambda: report(WAITING)):
        opened = Bundle.open(Path(bundle))  # again: another export may just have changed it
        _require_room(opened, networks, replace)
        additions = _additions(opened, controlnets, tiny_vae)
        tokens = tokens_for_bundle(opened, opened_embeddings)
        replaced = (
            *files_of_networks(opened.manifest, networks),
            *(files_of_encoders(opened) if tokens else ()),
        )
        with changed_folder(opened.root, last=MANIFEST_NAME, obsolete=replaced) as draft:
            exported = tuple(components_of_additions(additions, draft, weights, report))
            components = [in_free_folder(component, draft, opened.root) for component in exported]
            family, encoders = write_extended_encoders(opened, tokens, draft)
            manifest = dataclasses.replace(
                opened.manifest,
                family=family,
                merged=(*opened.manifest.merged, *records_of(opened_embeddings)),
            )
            write_manifest(draft, manifest_with(manifest, components, replaced, draft, encoders))
    return Path(bundle)


def _additions(bundle: Bundle, controlnets: Sources, tiny_vae: Source | None) -> Additions:
    return Additions(
        controlnets_from_sources(controlnets, _host_of(bundle)) if controlnets else (),
        None if tiny_vae is None else tiny_vae_from_source(tiny_vae, bundle.family),
    )


def _host_of(bundle: Bundle) -> Host:
    unet = JsonFields(bundle.component_config(bundle.name_of("denoiser")))
    kind = kind_of_family(bundle.family.name)
    return Host(unet, bundle.family.latents.vae_scale_factor, kind)


def _require_room(bundle: Bundle, networks: tuple[str, ...], replace: bool) -> None:
    """ExportError if the bundle cannot take networks of these names."""
    if is_demo(bundle.root):
        raise ExportError(
            f"'{bundle.root}' is the built-in bundle and stays as it is: copy the folder, and add "
            "to the copy"
        )
    if not (bundle.root / MANIFEST_NAME).exists():
        raise ExportError(
            f"'{bundle.root}' has no {MANIFEST_NAME} (optimum made it): export its checkpoint with "
            "sdrt"
        )
    controlled = set(networks) - set(_TINY_VAE)
    if controlled and bundle.find("denoiser", RESIDUALS) is None:
        raise ExportError(
            f"'{bundle.root}' has no UNet for ControlNets (it was made by an older sdrt or by "
            "optimum): export its checkpoint again"
        )
    for name in networks:
        if bundle.has(name) and not replace:
            raise ExportError(f"'{bundle.root}' already has {_advice_on_taken(name)}")


def _advice_on_taken(network: str) -> str:
    if network in _TINY_VAE:
        return "a tiny VAE: replace it (--replace)"
    name = names.controlnet_of(network)
    return f"a ControlNet '{name}': choose another name, or replace it (--replace)"
