"""A network prepared for this machine's processor, for the target `cpu`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdrt.bundle.manifest import Component
from sdrt.files.json_fields import JsonFields
from sdrt.targets.built_graph import BuiltGraph

BACKEND = "cpu"


@dataclass(frozen=True)
class PreparedGraph(BuiltGraph):
    """With the machine that it is good for."""

    RECORD_NAME = "prepared.json"

    preparer: Mapping[str, str]  # the onnxruntime and the processor

    @classmethod
    def _own_fields(cls, fields: JsonFields) -> dict[str, Any]:
        return {"preparer": fields.child("preparer").values}


def prepared_graph_of(root: Path, component: Component) -> PreparedGraph | None:
    """The graph that was made from this very network for this very machine, or None."""
    graph = PreparedGraph.of(root, BACKEND, component)
    if graph is None:
        return None
    from sdrt_engines.prepared_onnx import preparer  # for bundles that have such graphs alone

    return graph if graph.preparer == preparer() else None
