"""Removes nodes from a traced graph whose input can replace their output."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, numpy_helper


def remove_inputs(model: ModelProto, names: Collection[str]) -> ModelProto:
    """A copy of the model without these inputs, and without the Add that each of them feeds."""
    edited = ModelProto()
    edited.CopyFrom(model)
    graph = edited.graph
    sums = [node for node in graph.node if not set(node.input).isdisjoint(names)]
    assert [node.op_type for node in sums] == ["Add"] * len(names), "one Add for each input"
    bypass(
        graph,
        {node.output[0]: name for node in sums for name in node.input if name not in names},
    )
    kept = [value for value in graph.input if value.name not in names]
    del graph.input[:]
    graph.input.extend(kept)
    return edited


def remove_no_ops(graph: GraphProto) -> None:
    """Removes multiplications by 1, divisions by 1, and identities.

    The first two are scales that diffusers leaves open; tracers insert the third for copies.
    """
    ones = {
        node.output[0]
        for node in graph.node
        if node.op_type == "Constant" and _is_one(numpy_helper.to_array(node.attribute[0].t))
    }
    bypass(
        graph,
        {
            node.output[0]: node.input[0]
            for node in graph.node
            if node.op_type == "Identity"
            or (node.op_type in ("Mul", "Div") and node.input[1] in ones)
        },
    )


def bypass(graph: GraphProto, sources: Mapping[str, str]) -> None:
    """Removes the nodes whose outputs are keys: their readers read the key's value instead.

    An output of the graph keeps its name.
    """
    outputs = {value.name for value in graph.output}
    names = {output: _origin(output, sources) for output in sources}
    kept_names = {source: output for output, source in names.items() if output in outputs}
    assert len(kept_names) == len(outputs & names.keys()), "each output has a node of its own"
    nodes = [node for node in graph.node if node.output[0] not in sources]
    for node in nodes:
        for tensors in (node.input, node.output):
            for place, name in enumerate(tensors):
                name = names.get(name, name)
                tensors[place] = kept_names.get(name, name)
    del graph.node[:]
    graph.node.extend(nodes)


def _origin(name: str, sources: Mapping[str, str]) -> str:
    while name in sources:
        name = sources[name]
    return name


def _is_one(array: np.ndarray[Any, Any]) -> bool:
    """True if it is the float 1; arithmetic on integers, which are sizes, belongs to `fold`."""
    return array.ndim == 0 and array.dtype.kind == "f" and bool(array == 1)
