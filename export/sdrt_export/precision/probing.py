"""Runs a graph and looks inside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto

from sdrt_engines import Array
from sdrt_engines.onnxruntime_library import LOG_NOTHING, import_onnxruntime, onnxruntime_errors
from sdrt_export.errors import BuildError

_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


def tensors_of(
    model: ModelProto, folder: Path, names: Sequence[str], cases: Iterable[Mapping[str, Array]]
) -> Iterator[dict[str, Array]]:
    """The float32 tensors called `names`, inside the graph or at its end, for each of the `cases`.

    `folder` is where the model's external weights lie. The tensors of one case are in memory
    together: of all tensors, take small cases.
    """
    probed = ModelProto()
    probed.CopyFrom(model)
    ends = {value.name for value in model.graph.output}
    for name in names:
        if name not in ends:
            probed.graph.output.add(name=name).type.tensor_type.elem_type = TensorProto.FLOAT
    session = _session(probed, folder)
    for case in cases:
        yield dict(zip(names, session.run(list(names), dict(case)), strict=True))


def _session(model: ModelProto, folder: Path) -> Any:
    """The graph in ONNX Runtime, as it stands: what an optimiser rewrites cannot be looked at."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = LOG_NOTHING
    options.add_session_config_entry(_WEIGHTS_FOLDER, str(folder))
    with onnxruntime_errors(
        lambda: "the network does not load in onnxruntime",
        raises=BuildError,
        way_out="export it again",
    ):
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
