"""Changes how an ONNX file stores its weights, one at a time: as float32, or in the file of another
network that has the same ones.

Only weights in a file next to the ONNX file count; the others are small. The numbers of the fields
are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np

from sdrt_engines.onnx_signature import onnx_message
from sdrt_engines.protobuf import (
    Edit,
    bytes_field,
    edited,
    fields_of,
    int_field,
    message_of,
    messages_of,
    text_of,
)

_GRAPH = 7
_NODE, _WEIGHT = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR = 1, 2, 4
_DIM, _TYPE, _NAME, _EXTERNAL = 1, 2, 8, 13
_KEY, _VALUE = 1, 2
_FLOAT32, _FLOAT16 = 1, 10
_PREPACKED = "prepacked_"  # begins the keys of ONNX Runtime's own entries
_ALIGNMENT = 64  # bytes
_CONVOLUTION_AXES = 4  # out, in, height, width

Place: TypeAlias = tuple[int, int]  # offset and length in the file of weights
Entries: TypeAlias = dict[str, str]  # where a weight is: location, offset, length


def share_in_convolutions(path: Path) -> float:
    """The share of the weights of an ONNX file that convolutions have: those with four axes."""
    sizes = {False: 0, True: 0}
    with onnx_message(path) as message:
        graph = message_of(message, _GRAPH)
        for tensor in messages_of(fields_of(graph), _WEIGHT):
            if entries := _entries_of(tensor):
                num_axes = sum(number == _DIM for number, _ in fields_of(tensor))
                sizes[num_axes == _CONVOLUTION_AXES] += _place_of(entries)[1]
    return sizes[True] / max(sum(sizes.values()), 1)


def write_widened(source: Path, model: Path) -> None:
    """Writes the network in the ONNX file `source` to `model`, with all weights in a file next to
    it; those that it stores in float16 and casts to float32, as float32."""
    with onnx_message(source) as message, model.with_suffix(".onnx_data").open("xb") as data:
        widening = _Widening(source.parent, data, _casts_of(message_of(message, _GRAPH)))
        edits: dict[int, Edit] = {_NODE: widening.node, _WEIGHT: widening.weight}
        model.write_bytes(_with_graph(message, edits))


class _Widening:
    """The fields of the new graph; writes the weights on the way. `casts` are the names of the
    weights to widen, and of what they become."""

    def __init__(self, folder: Path, data: IO[bytes], casts: Mapping[str, str]) -> None:
        self._folder, self._data, self._casts = folder, data, casts

    def node(self, node: memoryview) -> bytes:
        """Nothing in place of a cast, whose result is a weight now."""
        weight, _ = _cast_of(node) or ("", "")
        return b"" if weight in self._casts else bytes_field(_NODE, node)

    def weight(self, tensor: memoryview) -> bytes:
        entries = _entries_of(tensor)
        if not entries:
            return bytes_field(_WEIGHT, tensor)
        path, offset, length = self._folder / entries["location"], *_place_of(entries)
        values = np.fromfile(path, np.uint8, length, offset=offset)
        if (wide := self._casts.get(text_of(tensor, _NAME))) is not None:
            values = values.view(np.float16).astype(np.float32)
            edits: dict[int, Edit] = {
                _NAME: lambda name: bytes_field(_NAME, wide.encode()),
                _TYPE: lambda kind: int_field(_TYPE, _FLOAT32),
            }
            tensor = memoryview(edited(tensor, edits))
        self._data.write(bytes(-self._data.tell() % _ALIGNMENT))
        place = {"offset": str(self._data.tell()), "length": str(values.nbytes)}
        self._data.write(values.data)
        return _weight_at({"location": Path(self._data.name).name, **place}, tensor)


def _casts_of(graph: memoryview) -> dict[str, str]:
    """The weights in float16 whose only use is a cast, and the name of its result."""
    fields = list(fields_of(graph))
    nodes = list(messages_of(fields, _NODE))
    uses = Counter(
        str(name, "utf-8") for node in nodes for name in messages_of(fields_of(node), _NODE_INPUT)
    )
    halves = {
        text_of(tensor, _NAME)
        for tensor in messages_of(fields, _WEIGHT)
        if dict(fields_of(tensor))[_TYPE] == _FLOAT16 and _entries_of(tensor)
    }
    casts = (cast for node in nodes if (cast := _cast_of(node)) is not None)
    return {weight: wide for weight, wide in casts if weight in halves and uses[weight] == 1}


def _cast_of(node: memoryview) -> tuple[str, str] | None:
    """The input and the output of a cast to float32."""
    if text_of(node, _NODE_OPERATOR) != "Cast" or _TO_FLOAT32 not in bytes(node):
        return None
    return text_of(node, _NODE_INPUT), text_of(node, _NODE_OUTPUT)


_TO_FLOAT32 = bytes_field(1, b"to") + int_field(3, _FLOAT32)  # the attribute's name and integer


def share_weights(model: Path, data: Path, other: Path, other_data: Path) -> bool:
    """Makes `data`, which the ONNX file `model` reads, a second name of the file `other_data` if
    that holds the same weights, in whatever order. False if it does not, or if the disk has no
    second names.
    """
    there = {digest: place for place, digest in _digests(other, other_data).items()}
    here = _digests(model, data)
    if not here or not there.keys() >= set(here.values()):
        return False
    shared = data.with_name(f"{data.name}.shared")
    try:
        shared.hardlink_to(other_data)
    except OSError:
        return False
    model.write_bytes(_with_places(model, lambda place: there[here[place]]))
    shared.replace(data)
    return True


def _digests(model: Path, data: Path) -> dict[Place, bytes]:
    """The digest of each weight, and of its form for ONNX Runtime's kernels."""
    digests: dict[Place, bytes] = {}
    with data.open("rb") as file:

        def read(place: Place) -> Place:
            offset, length = place
            file.seek(offset)
            digests[place] = hashlib.sha256(file.read(length)).digest()
            return place

        _with_places(model, read)
    return digests


def _with_places(model: Path, move: Callable[[Place], Place]) -> bytes:
    """The ONNX file with its weights in other places of their file."""

    def weight(tensor: memoryview) -> bytes:
        entries = _entries_of(tensor)
        return (
            _weight_at(_moved(entries, move), tensor) if entries else bytes_field(_WEIGHT, tensor)
        )

    with onnx_message(model) as message:
        return _with_graph(message, {_WEIGHT: weight})


def _moved(entries: Entries, move: Callable[[Place], Place]) -> Entries:
    new = dict(entries, offset=str(move(_place_of(entries))[0]))
    for key, value in entries.items():
        if key.startswith(_PREPACKED):  # "Gemm+8455968446343383016|147456;147456;0"
            kind, *parts = value.split("|")
            new[key] = "|".join([kind, *(_moved_part(part, move) for part in parts)])
    return new


def _moved_part(part: str, move: Callable[[Place], Place]) -> str:
    offset, length, *rest = part.split(";")
    return ";".join([str(move((int(offset), int(length)))[0]), length, *rest])


def _place_of(entries: Entries) -> Place:
    return int(entries["offset"]), int(entries["length"])


def _entries_of(tensor: memoryview) -> Entries:
    entries = messages_of(fields_of(tensor), _EXTERNAL)
    return {text_of(entry, _KEY): text_of(entry, _VALUE) for entry in entries}


def _weight_at(entries: Entries, tensor: memoryview) -> bytes:
    """The field of a weight that is stored there."""
    places = b"".join(
        bytes_field(
            _EXTERNAL, bytes_field(_KEY, key.encode()) + bytes_field(_VALUE, value.encode())
        )
        for key, value in entries.items()
    )
    return bytes_field(_WEIGHT, edited(tensor, {_EXTERNAL: lambda entry: b""}) + places)


def _with_graph(message: memoryview, edits: Mapping[int, Edit]) -> bytes:
    return edited(message, {_GRAPH: lambda graph: bytes_field(_GRAPH, edited(graph, edits))})
