"""A network prepared for this machine's processor, beside the bundle's own:
`engines/cpu/<component>/`, with a record of what made it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sdrt.errors import SdrtError
from sdrt.json_fields import within
from sdrt.manifest import Component, FileRecord
from sdrt.plan_record import built_fields, built_files, graph_folder, onnx_digests

BACKEND = "cpu"
RECORD_NAME = "prepared.json"
RECORD_VERSION = 1


@dataclass(frozen=True)
class PreparedGraph:
    """The graph as it was when it was made. `files` are the model, then its weights."""

    onnx: Mapping[str, str]  # file of the bundle's own network → sha256
    preparer: Mapping[str, str]  # the onnxruntime and the processor that it is good for
    files: tuple[FileRecord, ...]

    @property
    def model(self) -> str:
        return self.files[0].path

    def to_json(self) -> str:
        return json.dumps({"record_version": RECORD_VERSION} | asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> PreparedGraph:
        """BundleError where a field is missing or malformed."""
        fields = built_fields(text, RECORD_VERSION)
        return cls(
            onnx=fields.child("onnx").values,
            preparer=fields.child("preparer").values,
            files=built_files(fields),
        )


def prepared_graph_of(root: Path, component: Component) -> PreparedGraph | None:
    """The graph that was made from this very network for this very machine, or None."""
    path = root / graph_folder(BACKEND, component.name) / RECORD_NAME
    if not path.is_file():
        return None
    from sdrt_engines.prepared_onnx import preparer

    try:
        with within(str(path)):
            graph = PreparedGraph.from_json(path.read_bytes())
    except (OSError, SdrtError):
        return None
    fits = graph.preparer == preparer() and graph.onnx == onnx_digests(root, component)
    return graph if fits else None
