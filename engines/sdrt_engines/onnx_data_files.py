"""The files that hold the weights of an ONNX file, as the file names them.

Tensors anywhere in the model may have their data elsewhere: initializers, constants in attributes,
subgraphs, functions, sparse tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Final

from sdrt_engines.onnx_signature import onnx_message
from sdrt_engines.protobuf import fields_of, messages_of

_KEY, _VALUE = 1, 2
_EXTERNAL_DATA = 13
_LOCATION = b"location"

# The fields of each message that lead to a tensor, by number, with their own kind of message.
_LEADING: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
}


def data_files_of(path: str | PathLike[str]) -> frozenset[str]:
    """The locations of external data in the ONNX file at `path`, relative to its folder.

    EngineError for a file that is missing, not ONNX or truncated.
    """
    with onnx_message(Path(path)) as model:
        return frozenset(_locations(model, "model"))


def _locations(message: memoryview, kind: str) -> Iterator[str]:
    if kind == "tensor":
        yield from _locations_of_tensor(message)
        return
    if kind == "node" and _LOCATION not in bytes(message):
        return  # nearly all of thousands
    for number, value in fields_of(message):
        child = _LEADING[kind].get(number)
        if child is not None and isinstance(value, memoryview):
            yield from _locations(value, child)


def _locations_of_tensor(tensor: memoryview) -> Iterator[str]:
    for entry in messages_of(fields_of(tensor), _EXTERNAL_DATA):
        fields = list(fields_of(entry))
        if any(bytes(key) == _LOCATION for key in messages_of(fields, _KEY)):
            yield from (str(value, "utf-8") for value in messages_of(fields, _VALUE))
