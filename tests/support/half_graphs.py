"""Tiny networks with the patterns that the precision pass looks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from sdrt_engines import Array

FLOAT, FP16, BF16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16


def node(operator: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    """`inputs` are separated by blanks; the node is named after its output."""
    return helper.make_node(operator, inputs.split(), [output], name=output, **attributes)


def write_network(
    folder: Path,
    nodes: Sequence[NodeProto],
    weights: Mapping[str, Array],
    shape: Sequence[int | str] = ("batch", 4),
    outputs: Sequence[str] = ("y",),
) -> Path:
    """From the float32 `x` to the float32 `outputs`; weights of a page or more lie next to it."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info("x", FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)  # the outputs' shapes
    del model.graph.value_info[:]
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(
        model,
        str(folder / "model.onnx"),
        save_as_external_data=True,
        location="model.onnx_data",
        size_threshold=4096,
    )
    return folder / "model.onnx"


def operators_of(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]


def types_of(path: Path) -> dict[str, int]:
    """The element type of every tensor and weight, after ONNX's own check of the model."""
    onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False)).graph
    types = {weight.name: weight.data_type for weight in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    return types
