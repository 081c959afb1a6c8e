"""The networks of a bundle: run in torch, written as ONNX, compared."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

from sdrt.bundle.file_records import sealed_file
from sdrt.bundle.manifest import Component
from sdrt_export.checkpoints.parts import CONFIG_NAME
from sdrt_export.networks.loading import Part
from sdrt_export.options import Report, WeightStorage, WeightType
from sdrt_export.tracing.onnx_from_network import fit_half, round_weights, write_variants
from sdrt_export.tracing.parity import cases_from_network, checked_parity

PRECISIONS = {"fp32": "float32", "fp16": "float16"}  # of the weights, by their names in a manifest


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
    networks = part.networks()
    report(f"{part.name}: running in torch")
    facts = [(each.name, each.role, each.signature, each.takes) for each in networks]
    cases = [cases_from_network(network) for network in networks]
    report(f"{part.name}: writing ONNX")
    if weights == "fp16":
        round_weights(networks[0])
    stored: WeightType = "fp16" if weights != "fp32" and fit_half(networks[0]) else "fp32"
    files = write_variants(networks, folder, stored)
    del networks  # the engines below read the weights again
    gc.collect()
    shutil.copyfile(part.config, folder / CONFIG_NAME)
    report(f"{part.name}: comparing with torch")
    records = {path: sealed_file(bundle, path) for paths in files for path in paths}
    return tuple(
        Component(
            name=name,
            role=role,
            model=paths[0].relative_to(bundle).as_posix(),
            signature=signature,
            precision=PRECISIONS[stored],
            files=tuple(records[path] for path in paths),
            parity=checked_parity(name, paths[0], expected, rounded=weights == "fp16"),
            takes=takes,
        )
        for (name, role, signature, takes), expected, paths in zip(facts, cases, files, strict=True)
    )
