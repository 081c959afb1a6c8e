"""Reads the nodes of an ONNX graph without a library: which node makes a tensor, and its constants.

The numbers of the fields are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sdrt_engines.protobuf import fields_of, messages_of, text_of
from sdrt_engines.tensor import Array

GRAPH = 7  # of the model
NODE, WEIGHT, _OUTPUT = 1, 5, 12
INPUT, OUTPUT, OPERATOR, ATTRIBUTE, DOMAIN = 1, 2, 4, 5, 7  # of a node
NAME, FLOAT, INT, TEXT, INTS, TYPE = 1, 2, 3, 4, 8, 20  # of an attribute
DIM, TENSOR_TYPE, TENSOR_NAME, RAW = 1, 2, 8, 9  # of a tensor
DTYPES: Mapping[int, np.dtype[Any]] = {1: np.dtype("<f4"), 7: np.dtype("<i8")}


@dataclass(frozen=True)
class Node:
    """A node, its tensors by name."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[memoryview, ...]
    message: memoryview

    @classmethod
    def of(cls, message: memoryview) -> Node:
        found: dict[int, list[memoryview]] = {INPUT: [], OUTPUT: [], OPERATOR: [], ATTRIBUTE: []}
        for number, value in fields_of(message):
            if number in found and isinstance(value, memoryview):
                found[number].append(value)
        inputs, outputs, operators = (
            [str(name, "utf-8") for name in found[number]] for number in (INPUT, OUTPUT, OPERATOR)
        )
        operator = operators[0] if operators else ""
        return cls(operator, tuple(inputs), tuple(outputs), tuple(found[ATTRIBUTE]), message)

    def input(self, index: int) -> str:
        """The name of an input; empty if it has fewer."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def integers(self, name: str) -> list[int]:
        """The values of an attribute that is an integer or a list of them; empty if missing."""
        for attribute in self.attributes:
            if text_of(attribute, NAME) == name:
                return [
                    _signed(value)
                    for number, value in fields_of(attribute)
                    if number in (INT, INTS) and isinstance(value, int)
                ]
        return []

    def text(self, name: str) -> str:
        """The value of an attribute that is a text; empty if missing."""
        for attribute in self.attributes:
            if text_of(attribute, NAME) == name:
                return next((str(v, "utf-8") for v in messages_of(fields_of(attribute), TEXT)), "")
        return ""


class Graph:
    """The nodes of a graph in their order: each comes after those whose results it takes."""

    def __init__(self, message: memoryview) -> None:
        fields = list(fields_of(message))
        self.nodes = [Node.of(node) for node in messages_of(fields, NODE)]
        self.outputs = [text_of(output, NAME) for output in messages_of(fields, _OUTPUT)]
        self._weights = list(messages_of(fields, WEIGHT))
        self._makers = {name: node for node in self.nodes for name in node.outputs}

    def maker(self, name: str, operator: str) -> Node | None:
        """The node that makes a tensor, if it is of this operator."""
        node = self._makers.get(name)
        return node if node is not None and node.operator == operator else None

    def users(self, name: str) -> list[Node]:
        """The nodes that take a tensor."""
        return [node for node in self.nodes if name in node.inputs]

    def constant(self, name: str) -> Array | None:
        """The values of a constant of int64 or float32 that is in the ONNX file itself; None if the
        tensor is something else."""
        fields = dict(fields_of(self._constants.get(name, memoryview(b""))))
        element, raw = fields.get(TENSOR_TYPE), fields.get(RAW)
        dtype = DTYPES.get(element) if isinstance(element, int) else None
        if dtype is None or not isinstance(raw, memoryview) or len(raw) % dtype.itemsize:
            return None
        return np.frombuffer(raw, dtype)

    @cached_property
    def _constants(self) -> dict[str, memoryview]:
        return {text_of(tensor, TENSOR_NAME): tensor for tensor in self._weights}


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
