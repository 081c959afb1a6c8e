"""Networks that take long: a loop without end, and single nodes of seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from fuzzing.bundles import resealed
from sdrt_engines import Array
from support.onnx_writer import Node, field, node, onnx_model, spec, value_info
from support.toy_bundle import SIGNATURES

_NETWORK = "unet/model.onnx"
_MANY = np.array(2**62)  # turns of the loop
_SIDE = 2000  # of the matrices: a product of eight takes seconds


def endless(toy: Path, bundle: Path) -> None:
    """A copy of the toy whose UNet never ends; it is small steps, each of which returns."""
    loop = node("Loop", ["many", "true", "sample"], ["out_sample"]) + field(5, _body())
    weights = {"many": _MANY, "true": np.array(True), "factor": np.array([0.5], np.float32)}
    _write(toy, bundle, onnx_model(SIGNATURES["unet"], [], weights, extra=[loop]))


def slow(toy: Path, bundle: Path) -> None:
    """A copy of the toy whose UNet consists of products that take seconds each."""
    products: list[Node] = [
        ("MatMul", [f"square.{i}", f"square.{i}"], [f"square.{i + 1}"]) for i in range(20)
    ]
    nodes: list[Node] = [
        ("GlobalAveragePool", ["sample"], ["mean"]),
        ("Expand", ["mean", "size"], ["square.0"]),
        *products,
        ("GlobalAveragePool", ["square.20"], ["last"]),
        ("Add", ["sample", "last"], ["out_sample"]),
    ]
    weights: dict[str, Array] = {"size": np.array([1, 1, _SIDE, _SIDE])}
    _write(toy, bundle, onnx_model(SIGNATURES["unet"], nodes, weights))


def _write(toy: Path, bundle: Path, network: bytes) -> None:
    shutil.copytree(toy, bundle)
    (bundle / _NETWORK).unlink()
    (bundle / _NETWORK).write_bytes(network)
    resealed(bundle)


def _body() -> bytes:
    """The attribute of a Loop: its body, which goes on for ever."""
    number, goes_on = spec("turn", "int64"), spec("goes_on", "bool")
    value = spec("value", "float32", "B", 4, "h", "w")
    graph = field(1, node("Identity", ["goes_on"], ["goes_on_again"]))
    graph += field(1, node("Mul", ["value", "factor"], ["next_value"])) + field(2, b"body")
    graph += b"".join(field(11, value_info(each)) for each in (number, goes_on, value))
    outputs = spec("goes_on_again", "bool"), spec("next_value", "float32", "B", 4, "h", "w")
    graph += b"".join(field(12, value_info(each)) for each in outputs)
    return field(1, b"body") + field(6, graph) + field(20, 5)  # 5: a graph
