"""A typed graph with the operators for which ONNX Runtime has CUDA kernels.

They are undefined outside of ONNX Runtime, and most have no CPU kernel there, so this is the last
step of `sdrt build --target cuda`: the precision search has run on the plain graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import onnx

from sdrt_export.fusing.channels_last import to_channels_last
from sdrt_export.fusing.editor import FusionEditor
from sdrt_export.fusing.norm_fusions import (
    fuse_group_norm,
    fuse_skip_group_norm,
    fuse_skip_layer_norm,
)
from sdrt_export.fusing.product_fusions import (
    fuse_attention,
    fuse_bias_add,
    fuse_split_gelu,
    merge_projections,
)
from sdrt_export.precision.typed_graph import TypedGraph, write_typed

Pass: TypeAlias = Callable[[FusionEditor], None]

PASSES: tuple[Pass, ...] = (
    fuse_attention,
    fuse_split_gelu,
    fuse_skip_layer_norm,
    fuse_bias_add,
    fuse_group_norm,
    to_channels_last,
    fuse_skip_group_norm,
    merge_projections,
)


def write_fused(model: Path, folder: Path, passes: Sequence[Pass] = PASSES) -> Path:
    """Writes the graph at `model`, fused, and its weights into `folder`; the new model's path."""
    graph = FusionEditor(onnx.load(model, load_external_data=False), model.parent)
    for run in passes:
        run(graph)
    return write_typed(TypedGraph(graph.finish(), graph.weights), model.parent, folder)
