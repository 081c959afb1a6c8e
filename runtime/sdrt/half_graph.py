"""A network in half precision beside the bundle's own, for backends that run ONNX:
`engines/<backend>/<component>/`, with a record of what made it.
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

RECORD_NAME = "half.json"
RECORD_VERSION = 1


@dataclass(frozen=True)
class HalfGraph:
    """The graph as it was when it was made. `files` are the model, then its weights."""

    onnx: Mapping[str, str]  # file of the bundle's own network → sha256
    precision: str  # "fp16"; "fp32" where half precision did not do
    promoted: tuple[str, ...]  # nodes that running the network made float32
    policy: int  # version of the precision policy
    psnr: float | None  # dB beside float32, executed on the CPU; None: nothing was changed
    files: tuple[FileRecord, ...]

    @property
    def model(self) -> str:
        return self.files[0].path

    def to_json(self) -> str:
        return json.dumps({"record_version": RECORD_VERSION} | asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> HalfGraph:
        """BundleError where a field is missing or malformed."""
        fields = built_fields(text, RECORD_VERSION)
        psnr = fields.values.get("psnr")
        return cls(
            onnx=fields.child("onnx").values,
            precision=fields.text("precision"),
            promoted=tuple(fields.array("promoted")),
            policy=fields.integer("policy"),
            psnr=None if psnr is None else fields.number("psnr"),
            files=built_files(fields),
        )


def half_graph_of(root: Path, backend: str, component: Component) -> HalfGraph | None:
    """The graph that was made from this very network, or None: not there, or of another one."""
    path = root / graph_folder(backend, component.name) / RECORD_NAME
    try:
        with within(str(path)):
            graph = HalfGraph.from_json(path.read_bytes())
    except (OSError, SdrtError):
        return None
    return graph if graph.onnx == onnx_digests(root, component) else None
