"""Networks whose activations overflow float16 although their outputs do not, as SDXL's VAE."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

from sdrt_engines import Array
from sdrt_export.precision.float_graph import float_graph_from_model
from sdrt_export.precision.policy import HalfType, Rules
from sdrt_export.precision.probing import tensors_of
from sdrt_export.precision.rounding import rounding_model
from sdrt_export.precision.typed_graph import half_from_float, kept_by_rules, load_for, write_typed

# What writes to the stream of residuals between the blocks of a VAE or of CLIP, and the biases of
# what passes the stream on. Norms read it, and cancel a factor.
_STREAM = re.compile(
    r"(conv_in|\.conv2|to_out\.0|out_proj|fc2)\.(weight|bias)"
    r"|(conv_shortcut|samplers\.0\.conv)\.bias|(token|position)_embedding"
)
# Queries of an attention, as `onnx_from_network` names them.
QUERIES = re.compile(r"\.to_q\.weight|q_proj\.(weight|bias)")


def write_loud(
    model: Path, folder: Path, factor: float, weights: re.Pattern[str] = _STREAM
) -> Path:
    """A copy of the network in `folder` in which the matching weights are `factor` times as large.

    For `_STREAM`, what the network computes stays the same.
    """
    loud = onnx.load(model)
    for weight in loud.graph.initializer:
        if weights.search(weight.name) and weight.data_type != onnx.TensorProto.INT64:
            values = numpy_helper.to_array(weight).astype(np.float32) * np.float32(factor)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    folder.mkdir(parents=True)
    onnx.save(loud, folder / model.name, save_as_external_data=True, location=f"{model.name}_data")
    return folder / model.name


def half_outputs(
    model: Path, folder: Path, rules: Rules, feeds: dict[str, Array], half: HalfType = "fp16"
) -> dict[str, Array]:
    """The outputs of the half-precision graph that `rules` alone give, written into `folder`."""
    graph = float_graph_from_model(load_for(model, half))
    folder.mkdir()
    write_typed(half_from_float(graph, half, kept_by_rules(graph, rules)), model.parent, folder)
    return rounded_outputs(folder / model.name, feeds)


def rounded_outputs(half: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    """The outputs of a half-precision graph with every rounding and overflow of a GPU."""
    typed = onnx.load(half, load_external_data=False)
    (outputs,) = tensors_of(rounding_model(typed), half.parent, _outputs_of(typed), [feeds])
    return outputs


def largest_inside(model: Path, feeds: dict[str, Array]) -> float:
    """The largest finite number inside the float32 network."""
    loaded = load_for(model, "fp16")
    graph = float_graph_from_model(loaded)
    inner = [name for node in graph.nodes for name in graph.float_outputs(node)]
    (tensors,) = tensors_of(loaded, model.parent, inner, [feeds])
    sizes = (np.abs(array) for array in tensors.values() if array.size)
    return max(float(size[size < 1e30].max(initial=0)) for size in sizes)


def _outputs_of(model: ModelProto) -> list[str]:
    return [value.name for value in model.graph.output]
