"""Runs a graph and reads tensors inside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto, helper

from sdrt_engines import Array
from sdrt_engines.onnxruntime_library import LOG_NOTHING, import_onnxruntime, onnxruntime_errors
from sdrt_export.errors import BuildError

_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_NO_PACKING = "session.disable_prepacking"


def tensors_of(
    model: ModelProto,
    folder: Path,
    names: Sequence[str],
    cases: Iterable[Mapping[str, Array]],
    *,
    fast: bool = False,
) -> Iterator[dict[str, Array]]:
    """The float32 tensors called `names`, inside the graph or its outputs, for each of `cases`.

    `folder` holds the model's external weights. All tensors of one case are in memory at once, so
    keep cases small if you read many. `fast` is for many cases: it takes memory for all weights in
    float32. BuildError if the network does not load or run.
    """
    probed = ModelProto()
    probed.CopyFrom(model)
    ends = {value.name for value in model.graph.output}
    for name in names:
        if name not in ends:
            probed.graph.output.add(name=name).type.tensor_type.elem_type = TensorProto.FLOAT
    session = _session(probed, folder, fast=fast)
    for case in cases:
        with onnxruntime_errors(
            lambda: "the network does not run in onnxruntime", raises=BuildError
        ):
            arrays = session.run(list(names), dict(case))
        yield dict(zip(names, arrays, strict=True))


def largest_of(
    model: ModelProto, folder: Path, names: Sequence[str], cases: Iterable[Mapping[str, Array]]
) -> dict[str, float]:
    """The largest size of a number in each tensor of `names`, over all cases.

    The graph itself computes it, so no tensor is kept. Otherwise as `tensors_of`.
    """
    measured = ModelProto()
    measured.CopyFrom(model)
    for name in names:
        size, largest = f"{name}.size", f"{name}.largest"
        measured.graph.node.append(helper.make_node("Abs", [name], [size]))
        measured.graph.node.append(helper.make_node("ReduceMax", [size], [largest], keepdims=0))
    ends = [f"{name}.largest" for name in names]
    found = [list(map(float, each.values())) for each in tensors_of(measured, folder, ends, cases)]
    return dict(zip(names, map(max, zip(*found, strict=True)), strict=True))


def _session(model: ModelProto, folder: Path, *, fast: bool) -> Any:
    """The graph in ONNX Runtime, unoptimised unless it is `fast`.

    A graph runs a few times here, so memory counts, not time: weights stay mapped from their file
    instead of packed, and each tensor is freed after its last use instead of getting its own place.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if fast else levels.ORT_DISABLE_ALL
    options.log_severity_level = LOG_NOTHING
    options.enable_mem_pattern = False
    options.add_session_config_entry(_WEIGHTS_FOLDER, str(folder))
    options.add_session_config_entry(_NO_PACKING, "0" if fast else "1")
    with onnxruntime_errors(
        lambda: "the network does not load in onnxruntime",
        raises=BuildError,
        way_out="export it again",
    ):
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
