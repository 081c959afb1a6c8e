"""Rows of new tokens in the table of an exported text encoder, however it is stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from sdrt_engines import Array, data_files_of, engine_from_onnx
from sdrt_export import token_table
from sdrt_export.checkpoints.new_tokens import NewTokens
from sdrt_export.errors import ExportError
from sdrt_export.external_data import PAGE, initializer
from sdrt_export.token_table import write_extended

pytestmark = pytest.mark.export

RANDOM = np.random.default_rng(0)
WIDTH, NUM_TOKENS, EOS = 8, 600, 599
TABLE = RANDOM.standard_normal((NUM_TOKENS, WIDTH)).astype(np.float16).astype(np.float32)
OTHER = RANDOM.standard_normal((NUM_TOKENS, WIDTH), np.float32)  # also stored apart
EXACT = {NUM_TOKENS: TABLE[3] / 2, NUM_TOKENS + 1: TABLE[5] / 2}  # as exact in float16
INEXACT = {NUM_TOKENS: OTHER[3], NUM_TOKENS + 1: OTHER[5]}
IDS = np.array([[7, NUM_TOKENS, EOS, NUM_TOKENS + 1], [0, 1, EOS, EOS]])


def tokens_of(rows: dict[int, Array]) -> NewTokens:
    return NewTokens({f"token{index}": index for index in rows}, rows)


def node(operator: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def pooling(*, legacy: bool) -> list[NodeProto]:
    """The place of the end of the text, as transformers computes it with and without an eos id."""
    if legacy:
        return [node("Cast", "flat", "marks", to=TensorProto.INT32)]
    return [
        node("Equal", "flat eos", "equal"),
        node("Cast", "equal", "marks", to=TensorProto.INT32),
    ]


def write_encoder(
    folder: Path, dtype: str = "float32", table: Array = TABLE, *, legacy: bool = False
) -> Path:
    """A text encoder that looks up a table and adds another one's rows."""
    folder.mkdir()
    stored = "table" if dtype == "float32" else "table.fp16"
    cast = [node("Cast", "table.fp16", "table", to=TensorProto.FLOAT)]
    nodes = [
        *(cast if dtype == "float16" else []),
        node("Reshape", "input_ids shape", "flat"),
        node("Gather", "table flat", "looked_up"),
        node("Slice", "other zero length", "first"),
        node("Add", "looked_up first", "states"),
        *pooling(legacy=legacy),
        node("ArgMax", "marks", "pooled", axis=-1, keepdims=0),
    ]
    with (folder / "model.onnx_data").open("wb") as data:
        weights = [
            initializer(stored, table.astype(dtype), data),
            initializer("other", OTHER, data),
            numpy_helper.from_array(np.array([-1, 4]), "shape"),
            numpy_helper.from_array(np.array(EOS), "eos"),
            numpy_helper.from_array(np.array([0]), "zero"),
            numpy_helper.from_array(np.array([4]), "length"),
        ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", 4])],
        [
            helper.make_tensor_value_info("states", TensorProto.FLOAT, ["batch", 4, WIDTH]),
            helper.make_tensor_value_info("pooled", TensorProto.INT64, ["batch"]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def run(model: Path) -> dict[str, Array]:
    with engine_from_onnx(model, num_threads=1) as engine:
        return engine.run({"input_ids": IDS})


def expected(table: Array, rows: dict[int, Array]) -> Array:
    longer = np.concatenate([table, np.zeros((2, WIDTH), np.float32)])
    for index, values in rows.items():
        longer[index] = values
    states: Array = longer[IDS] + OTHER[:4]
    return states


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("rows", [EXACT, INEXACT], ids=["exact", "inexact"])
def test_the_rows_are_added(
    dtype: str, rows: dict[int, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_table, "_CHUNK", 64)
    model = write_encoder(tmp_path / "old", dtype)
    before = {path.name: path.read_bytes() for path in model.parent.iterdir()}
    (tmp_path / "new").mkdir()
    path, data = write_extended(model, tmp_path / "new", tokens_of(rows), pools=True)
    assert (path.name, data.name) == ("model.onnx", "model.onnx_data")
    outputs = run(path)
    np.testing.assert_array_equal(outputs["states"], expected(TABLE, rows))
    np.testing.assert_array_equal(outputs["pooled"], [2, 2])
    assert {p.name: p.read_bytes() for p in model.parent.iterdir()} == before

    assert data_files_of(path) == {"model.onnx_data"}
    graph = onnx.load_model(path, load_external_data=False).graph
    halves = [t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT16]
    assert halves == (["table.fp16"] if dtype == "float16" and rows is EXACT else [])
    places = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in graph.initializer
        if tensor.external_data
    ]
    assert all(int(place["offset"]) % PAGE == 0 for place in places)
    assert data.stat().st_size < sum(int(place["length"]) + PAGE for place in places)


def test_a_table_inside_of_the_onnx_file_may_grow_out_of_it(tmp_path: Path) -> None:
    small = TABLE[:100]  # 3,200 bytes; the ids of this test are in range of the new table
    rows = {number: OTHER[number] for number in range(100, NUM_TOKENS + 2) if number < NUM_TOKENS}
    rows |= INEXACT
    model = write_encoder(tmp_path / "old", table=small)
    (tmp_path / "new").mkdir()
    path, _ = write_extended(model, tmp_path / "new", tokens_of(rows), pools=True)
    table = np.concatenate([small, OTHER[100:NUM_TOKENS]])
    np.testing.assert_array_equal(run(path)["states"], expected(table, INEXACT))


def test_rows_that_were_not_in_use_are_replaced(tmp_path: Path) -> None:
    padded = np.concatenate([TABLE, TABLE[:40]])
    model = write_encoder(tmp_path / "old", table=padded)
    (tmp_path / "new").mkdir()
    path, _ = write_extended(model, tmp_path / "new", tokens_of(INEXACT), pools=True)
    np.testing.assert_array_equal(run(path)["states"], expected(TABLE, INEXACT))
    (table,) = (
        tensor
        for tensor in onnx.load_model(path, load_external_data=False).graph.initializer
        if tensor.name == "table"
    )
    assert list(table.dims) == [NUM_TOKENS + 40, WIDTH]


def test_a_vector_at_the_greatest_id_is_refused_where_it_is_read(tmp_path: Path) -> None:
    model = write_encoder(tmp_path / "old", legacy=True)
    (tmp_path / "new").mkdir()
    with pytest.raises(ExportError, match="pooled vector of a text at its greatest id, as exports"):
        write_extended(model, tmp_path / "new", tokens_of(EXACT), pools=True)
    write_extended(model, tmp_path / "new", tokens_of(EXACT), pools=False)


def without_gather(graph: onnx.GraphProto) -> None:
    gather = next(each for each in graph.node if each.op_type == "Gather")
    gather.input[1] = "zero"


def second_gather(graph: onnx.GraphProto) -> None:
    graph.node.append(node("Gather", "other flat", "more"))


def of_integers(graph: onnx.GraphProto) -> None:
    table = next(each for each in graph.initializer if each.name == "table")
    table.data_type = TensorProto.INT32


@pytest.mark.parametrize("change", [without_gather, second_gather, of_integers])
def test_a_table_is_never_guessed(
    change: Callable[[onnx.GraphProto], None], tmp_path: Path
) -> None:
    path = write_encoder(tmp_path / "old")
    model = onnx.load_model(path, load_external_data=False)
    change(model.graph)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="has no table that its token ids select rows of"):
        write_extended(path, tmp_path, tokens_of(EXACT), pools=False)


def test_truncated_weights_are_reported(tmp_path: Path) -> None:
    model = write_encoder(tmp_path / "old")
    data = model.with_name("model.onnx_data")
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(ExportError, match="is truncated: export it again"):
        write_extended(model, tmp_path, tokens_of(EXACT), pools=False)
