"""A backend's own graph of a network, next to the bundle's: `engines/<backend>/<component>/`, with
a record of its sources.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from sdrt.bundle.manifest import ENGINES, Component, FileRecord, file_from_fields, sealed
from sdrt.errors import BundleError, SdrtError
from sdrt.files.json_fields import JsonFields, within
from sdrt.targets.plan_record import built_fields, onnx_digests, precision_from_fields
from sdrt_engines.backend import INT8
from sdrt_engines.regular_file import read_regular

RECORD_VERSION = 2


@dataclass(frozen=True)
class BuiltGraph:
    """The graph at the time of its build. Subclasses add further sources, and read them in
    `_own_fields`."""

    RECORD_NAME: ClassVar[str]  # the record's file, in the graph's folder

    onnx: Mapping[str, str]  # file of the bundle's own network → sha256
    files: tuple[FileRecord, ...]  # the model, then its weights

    @property
    def model(self) -> str:
        return self.files[0].path

    def to_json(self) -> str:
        document = {"record_version": RECORD_VERSION} | asdict(self)
        return json.dumps(sealed(document), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """BundleError if a field is missing or malformed."""
        fields = built_fields(text, RECORD_VERSION)
        files = fields.convert_each("files", file_from_fields)
        if not files or any(file.sha256 is None for file in files):
            raise BundleError("files: expected at least one, each with its sha256")
        return cls(onnx=fields.child("onnx").values, files=files, **cls._own_fields(fields))

    @classmethod
    def of(cls, root: Path, backend: str, component: Component) -> Self | None:
        """The graph that was made from this network, or None: missing, or made from another one."""
        path = root / graph_folder(backend, component.name) / cls.RECORD_NAME
        try:
            with within(str(path)):
                graph = cls.from_json(read_regular(path))
                _require_inside(graph, graph_folder(backend, component.name))
        except (OSError, SdrtError):
            return None
        return graph if graph.onnx == onnx_digests(root, component) else None

    @classmethod
    def _own_fields(cls, fields: JsonFields) -> dict[str, Any]:
        """The fields of the subclass, by name."""
        raise NotImplementedError


def _require_inside(graph: BuiltGraph, folder: str) -> None:
    for file in graph.files:
        if not file.path.startswith(f"{folder}/"):
            raise BundleError(f"files: got '{file.path}', expected files in {folder}")


def graph_folder(backend: str, component: str) -> str:
    """The folder of a backend's own graph of a network in its bundle, with slashes."""
    return f"{ENGINES}/{backend}/{component}"


@dataclass(frozen=True)
class HalfGraph(BuiltGraph):
    """A network in half precision, with the results of the precision policy."""

    RECORD_NAME = "half.json"

    precision: str  # "fp16"; "fp32" if half precision was not enough
    promoted: tuple[str, ...]  # nodes kept in float32 after running the network
    policy: int  # version of the precision policy
    fusions: int  # version of the passes that insert the backend's own operators
    psnr: float | None  # dB against float32, executed on the CPU; None: nothing was changed
    reason: str | None = None  # why everything stays float32

    @classmethod
    def _own_fields(cls, fields: JsonFields) -> dict[str, Any]:
        psnr, reason = fields.values.get("psnr"), fields.values.get("reason")
        return {
            "precision": precision_from_fields(fields),
            "promoted": fields.texts("promoted"),
            "policy": fields.integer("policy"),
            "fusions": fields.integer("fusions"),
            "psnr": None if psnr is None else fields.number("psnr"),
            "reason": None if reason is None else fields.text("reason"),
        }


@dataclass(frozen=True)
class Int8Graph(BuiltGraph):
    """A denoiser in int8, which every backend with that precision runs."""

    RECORD_NAME = "int8.json"
    precision: ClassVar[str] = INT8

    stayed_float: tuple[str, ...]  # of the layers that could compute in int8
    num_layers: int  # that could
    float_share: float  # of the multiplications in these layers, in those that stayed float
    psnr: float  # dB against float32: the worst output of the recorded calls, executed on the CPU
    num_calls: int  # recorded, on which the ranges were measured
    other_networks: tuple[str, ...]  # of the bundle: not built, they compute in float32
    version: int  # of the passes that made it

    @classmethod
    def _own_fields(cls, fields: JsonFields) -> dict[str, Any]:
        return {
            "stayed_float": fields.texts("stayed_float"),
            "num_layers": fields.integer("num_layers"),
            "float_share": fields.number("float_share"),
            "psnr": fields.number("psnr"),
            "num_calls": fields.integer("num_calls"),
            "other_networks": fields.texts("other_networks"),
            "version": fields.integer("version"),
        }


@dataclass(frozen=True)
class PreparedGraph(BuiltGraph):
    """A network prepared for this machine's processor, with the machine that it is valid for."""

    RECORD_NAME = "prepared.json"
    precision: ClassVar[str] = "fp32"  # the network's

    preparer: Mapping[str, str]  # the onnxruntime and the processor

    @classmethod
    def _own_fields(cls, fields: JsonFields) -> dict[str, Any]:
        return {"preparer": fields.child("preparer").values}


def prepared_graph_of(root: Path, backend: str, component: Component) -> PreparedGraph | None:
    """The graph that was made from this network for this machine, or None."""
    graph = PreparedGraph.of(root, backend, component)
    if graph is None:
        return None
    from sdrt_engines.prepared_onnx import preparer  # only for bundles with such graphs

    return graph if graph.preparer == preparer() else None
