"""A text encoder in a bundle with further rows in its table of tokens: the ONNX file edited, its
weights copied piece by piece. No tensor as large as the table is in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from sdrt import tensor_names as names
from sdrt.adapters.number_types import Array
from sdrt_export.checkpoints.new_tokens import NewTokens
from sdrt_export.errors import ExportError
from sdrt_export.external_data import DATA_NAME, PAGE, initializer, num_bytes, opened_at

_CHUNK = 1 << 22  # bytes
_SAME_IDS = ("Cast", "Identity", "Reshape", "Unsqueeze")  # give the ids that they take
_TYPES: Mapping[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.FLOAT16: np.dtype(np.float16),
}


@dataclass(frozen=True)
class Table:
    """The table of tokens in a graph: an initializer, and the cast that makes it float32."""

    tensor: TensorProto
    cast: NodeProto | None


def write_extended(model: Path, folder: Path, tokens: NewTokens, *, pools: bool) -> list[Path]:
    """Writes the text encoder in the ONNX file `model` with the rows of new tokens into `folder`;
    the paths of its files.

    `pools` means that its pooled vector is read. ExportError if the graph has no table, or would
    take that vector at the greatest id, which is now a new token.
    """
    network = onnx.load_model(model, load_external_data=False)
    if pools and _pools_at_greatest_id(network.graph):
        raise ExportError(
            f"'{model}' takes the pooled vector of a text at its greatest id, as exports of an "
            "older sdrt do: export the checkpoint again, with --embedding"
        )
    table = _table_in(network.graph, model)
    data_path = folder / DATA_NAME
    with data_path.open("wb") as data:
        _copy_weights(network, table, model.parent, data, tokens)
        has_data = data.tell() > 0
    if not has_data:
        data_path.unlink()
    path = folder / model.name
    path.write_bytes(network.SerializeToString())
    return [path, data_path] if has_data else [path]


def _table_in(graph: GraphProto, model: Path) -> Table:
    """The table: what is gathered by the ids of a text."""
    ids = _names_of_ids(graph)
    gathers = [each for each in graph.node if each.op_type == "Gather" and each.input[1] in ids]
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    if len(gathers) == 1:
        name = gathers[0].input[0]
        cast = casts.get(name)
        tensor = tensors.get(name if cast is None else cast.input[0])
        if tensor is not None and tensor.data_type in _TYPES and len(tensor.dims) == 2:
            return Table(tensor, cast)
    raise ExportError(
        f"'{model}' has no table that its token ids select rows of: export the checkpoint again"
    )


def _names_of_ids(graph: GraphProto) -> set[str]:
    """The tensors that hold the ids of a text. Nodes are in the order in which they run."""
    ids = {names.INPUT_IDS}
    for node in graph.node:
        if node.op_type in _SAME_IDS and node.input[0] in ids:
            ids.update(node.output)
    return ids


def _pools_at_greatest_id(graph: GraphProto) -> bool:
    ids = _names_of_ids(graph)
    return any(node.op_type == "ArgMax" and node.input[0] in ids for node in graph.node)


def _copy_weights(
    network: ModelProto, table: Table, folder: Path, data: BinaryIO, tokens: NewTokens
) -> None:
    """Writes all weights that are not in the ONNX file to `data`, and their new places to it."""
    for tensor in network.graph.initializer:
        if tensor is table.tensor:
            continue
        if tensor.data_location == TensorProto.EXTERNAL:
            begin = _aligned(data)
            for piece in _pieces(tensor, folder):
                data.write(piece)
            _set_place(tensor, begin, data.tell() - begin)
    _write_table(network.graph, table, folder, data, tokens)


def _write_table(
    graph: GraphProto, table: Table, folder: Path, data: BinaryIO, tokens: NewTokens
) -> None:
    """Writes the table with its new rows: as it is stored or, if these do not fit, in float32."""
    tensor, old = table.tensor, _TYPES[table.tensor.data_type]
    before, width = tensor.dims
    new = old if _fit(tokens, old) else np.dtype(np.float32)
    if tensor.data_location != TensorProto.EXTERNAL:  # it is small
        rows = _with_rows(numpy_helper.to_array(tensor).astype(new), tokens)
        tensor.CopyFrom(initializer(tensor.name, rows, data))
    else:
        begin, row = _aligned(data), width * new.itemsize
        for piece in _pieces(tensor, folder):
            data.write(np.frombuffer(piece, old).astype(new, copy=False).tobytes())
        for index, values in tokens.rows.items():
            data.seek(begin + index * row)
            data.write(values.astype(new).tobytes())
        length = tokens.num_rows(before) * row
        data.seek(begin + length)
        _set_place(tensor, begin, length)
        tensor.dims[0] = tokens.num_rows(before)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(new)
    if table.cast is not None and new == np.float32:
        tensor.name = table.cast.output[0]
        graph.node.remove(table.cast)


def _fit(tokens: NewTokens, dtype: np.dtype[Any]) -> bool:
    """True if a type represents the rows of the tokens exactly."""
    with np.errstate(over="ignore"):
        return all((row.astype(dtype) == row).all() for row in tokens.rows.values())


def _with_rows(table: Array, tokens: NewTokens) -> Array:
    rows = np.zeros((tokens.num_rows(len(table)), table.shape[1]), table.dtype)
    rows[: len(table)] = table
    for index, values in tokens.rows.items():
        rows[index] = values
    return rows


def _pieces(tensor: TensorProto, folder: Path) -> Iterator[bytes]:
    """The bytes of a tensor outside of the ONNX file."""
    left = num_bytes(tensor)
    with opened_at(tensor, folder) as file:
        while left:
            piece = file.read(min(left, _CHUNK))
            if not piece:
                raise ExportError(f"'{file.name}' is truncated: export it again")
            left -= len(piece)
            yield piece


def _aligned(data: BinaryIO) -> int:
    """The next page of the file, to which it seeks."""
    return data.seek(-(-data.tell() // PAGE) * PAGE)


def _set_place(tensor: TensorProto, offset: int, length: int) -> None:
    place = {"location": DATA_NAME, "offset": offset, "length": length}
    del tensor.external_data[:]
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
