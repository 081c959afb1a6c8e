"""One network of a bundle: read, run in torch, written as ONNX, compared."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from pathlib import Path

from sdrt.file_records import record_file
from sdrt.manifest import Component
from sdrt_export.checkpoint import Checkpoint
from sdrt_export.loading import MODEL_OF_NETWORK, network_from_checkpoint
from sdrt_export.onnx_from_network import WeightType, round_weights, write_onnx
from sdrt_export.parity import cases_from_network, checked_parity

NETWORKS = tuple(MODEL_OF_NETWORK)
PRECISIONS = {"fp32": "float32", "fp16": "float16"}  # of the weights, as a manifest calls them


def export_component(
    name: str,
    checkpoint: Checkpoint,
    bundle: Path,
    weights: WeightType,
    report: Callable[[str], None],
) -> Component:
    """Writes the network `name` into its folder of `bundle`; what the manifest says about it.

    `report` is told each stage. Raises CheckpointError where the weights do not load, ExportError
    where ONNX and torch differ.
    """
    folder = bundle / name
    folder.mkdir()
    report(f"{name}: reading")
    network = network_from_checkpoint(name, checkpoint)
    signature = network.signature
    report(f"{name}: running in torch")
    cases = cases_from_network(network)
    report(f"{name}: writing ONNX")
    if weights == "fp16":
        round_weights(network)
    files = write_onnx(network, folder, weights)
    del network  # the engine below reads the weights once more
    gc.collect()
    shutil.copyfile(
        checkpoint.folder / MODEL_OF_NETWORK[name] / "config.json", folder / "config.json"
    )
    report(f"{name}: comparing with torch")
    parity = checked_parity(name, files[0], cases, weights)
    return Component(
        name=name,
        model=f"{name}/{files[0].name}",
        signature=signature,
        precision=PRECISIONS[weights],
        files=tuple(record_file(bundle, file) for file in files),
        parity=parity,
    )
