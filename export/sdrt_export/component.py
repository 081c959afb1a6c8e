"""The networks of a bundle: run in torch, written as ONNX, compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from sdrt.bundle.file_records import sealed_file
from sdrt.bundle.manifest import Component
from sdrt_export.networks.extended_table import ExtendedTable
from sdrt_export.networks.loading import Part
from sdrt_export.networks.network import Network
from sdrt_export.options import Report, WeightStorage, WeightType
from sdrt_export.own_process import call_in_own_process
from sdrt_export.tracing.half_weights import Rounded, all_fit_half
from sdrt_export.tracing.onnx_from_network import write_variants
from sdrt_export.tracing.parity import Case, cases_from_network, checked_parity

PRECISIONS = {"fp32": "float32", "fp16": "float16"}  # of the weights, by their names in a manifest
# Bytes of a model's weights in float32. A process takes seconds to start: as long as the export of
# a small model.
OWN_PROCESS_ABOVE = 2e9


def export_part(
    part: Part, bundle: Path, weights: WeightStorage, report: Report
) -> tuple[Component, ...]:
    """Writes the networks of `part` into its folder of `bundle`, and returns their records.

    `report` is called at each stage. Raises CheckpointError if the weights do not load, ExportError
    if ONNX and torch differ.
    """
    folder = bundle / part.name
    folder.mkdir()
    report(f"{part.name}: reading")
    networks = part.empty_networks()
    values: Mapping[str, torch.Tensor] = part.weights()
    report(f"{part.name}: running in torch")
    size = sum(4 * weight.numel() for weight in networks[0].parameters())
    cases = _cases_in_own_process(part) if size > OWN_PROCESS_ABOVE else _cases_of(part)
    report(f"{part.name}: writing ONNX")
    if weights == "fp16":
        values = Rounded(part.name, values)
    stored = _storage(weights, networks[0], values)
    files = write_variants(networks, folder, stored, values)
    part.write_config(folder)
    report(f"{part.name}: comparing with torch")
    records = {path: sealed_file(bundle, path) for paths in files for path in paths}
    return tuple(
        Component(
            name=network.name,
            role=network.role,
            model=paths[0].relative_to(bundle).as_posix(),
            signature=network.signature,
            precision=PRECISIONS[stored],
            files=tuple(records[path] for path in paths),
            parity=checked_parity(network.name, paths[0], expected, rounded=weights == "fp16"),
            takes=network.takes,
            variant=network.variant,
            latents=part.latents,
            source=part.source,
        )
        for network, expected, paths in zip(networks, cases, files, strict=True)
    )


def _cases_in_own_process(part: Part) -> list[list[Case]]:
    """The cases of a large model: its memory is free again before an engine loads the weights."""
    return call_in_own_process(part.name, _cases_of, part)


def _cases_of(part: Part) -> list[list[Case]]:
    return [cases_from_network(network) for network in part.networks()]


def _storage(
    option: WeightStorage, network: Network, weights: Mapping[str, torch.Tensor]
) -> WeightType:
    if option != "auto":
        return option
    names = set(network.model.state_dict())
    if isinstance(weights, ExtendedTable):
        names.remove(weights.table)  # new rows do not decide about all other weights
    return "fp16" if all_fit_half(weights, names) else "fp32"
