"""Networks that run for as long as a test wants."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sdrt_engines import Array, Signature
from support.onnx_writer import Node, graph_attribute, onnx_model, spec

ENDLESS = 2**40  # trips through a loop: weeks

CHAIN = Signature((spec("x", "float32", "B", 256),), (spec("y", "float32", "B", 256),))
_LENGTH = 300


def chain_model() -> bytes:
    """300 products with a matrix that moves each column to the right. A row takes milliseconds,
    20,000 rows a minute."""
    names = ["x", *(f"x{i}" for i in range(1, _LENGTH)), "y"]
    nodes = [("MatMul", [names[i], "matrix"], [names[i + 1]]) for i in range(_LENGTH)]
    return onnx_model(CHAIN, nodes, {"matrix": np.roll(np.eye(256, dtype=np.float32), 1, axis=1)})


def chained(x: Array) -> Array:
    """The output of the chain."""
    return np.roll(x, _LENGTH, axis=1)


def loop(name: str, result: str, shape: Sequence[int | str]) -> Node:
    """A node that returns its input after `num_trips` trips through a loop."""
    body = graph_attribute(
        "body",
        [("Identity", ["go"], ["go_on"]), ("Identity", ["before"], ["after"])],
        [spec("trip", "int64"), spec("go", "bool"), spec("before", "float32", *shape)],
        [spec("go_on", "bool"), spec("after", "float32", *shape)],
    )
    return "Loop", ["num_trips", "true", name], [result], body


def loop_weights(num_trips: int) -> dict[str, Array]:
    return {"num_trips": np.array(num_trips), "true": np.array(True)}
