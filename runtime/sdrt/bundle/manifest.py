"""The manifest, `sdrt.json`: what a bundle holds, what made it, and how near it is to torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from sdrt.errors import BundleError, did_you_mean
from sdrt.files.json_fields import JsonFields, within
from sdrt_engines import DTYPES, Signature, TensorSpec

ENGINES = "engines"  # the folder for what was built for a target
MANIFEST_NAME = "sdrt.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class FileRecord:
    """A file as it was when the bundle was made. `path` is relative to the bundle, with slashes.

    `sha256` is None in a folder without a manifest: nobody wrote down what the file should be.
    """

    path: str
    sha256: str | None
    size: int

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        leaves = ".." in parts or re.search(r"^/|^[A-Za-z]:|[\\\0]", self.path)
        if leaves or not parts:
            raise BundleError(
                f"path: got '{self.path}', expected a path inside the bundle, with slashes"
            )
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise BundleError(f"sha256: got '{self.sha256}', expected 64 hexadecimal digits")
        if self.size < 0:
            raise BundleError(f"size: got {self.size}, expected a number of bytes")


@dataclass(frozen=True)
class Parity:
    """The distance to torch, measured at export: greatest absolute error, and PSNR in dB.

    Equal outputs have an infinite PSNR, which JSON cannot say: there it is null.
    """

    max_abs: float
    psnr: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_abs) and self.max_abs >= 0):
            raise BundleError(f"max_abs: got {self.max_abs}, expected a finite number from 0 on")
        if math.isnan(self.psnr):
            raise BundleError("psnr: got NaN, expected a number of decibels")


@dataclass(frozen=True)
class Component:
    """One network of the bundle. `model` is its ONNX file, one of `files`; two may share a file.

    A network that was not exported with the others tells its own `source` and `tools`; where they
    are the manifest's, they are not said again.
    """

    name: str
    model: str
    signature: Signature
    precision: str  # of the weights: "float32"
    files: tuple[FileRecord, ...]
    parity: Parity | None
    source: str | None = None
    tools: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.model not in (file.path for file in self.files):
            raise BundleError(f"model: got '{self.model}', expected one of the component's files")


@dataclass(frozen=True)
class Manifest:
    """All that `sdrt.json` says. `files` are those of no network: tokenizer, scheduler, configs."""

    family: str  # "stable-diffusion-1"
    components: tuple[Component, ...]
    files: tuple[FileRecord, ...]
    source: str  # what was exported
    tools: Mapping[str, str]  # library → version, at export
    created: str  # ISO 8601
    defaults: Mapping[str, Any] = field(default_factory=dict)  # {"guidance_scale": 5.0}
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        names = [component.name for component in self.components]
        if not names or len(set(names)) < len(names):
            raise BundleError(f"components: got {names}, expected at least one, each name once")

    def to_json(self) -> str:
        """Indented, keys sorted, so that two manifests can be compared line by line."""
        return json.dumps(
            {
                "format_version": self.format_version,
                "family": self.family,
                "components": [_json_from_component(component) for component in self.components],
                "files": [vars(file) for file in self.files],
                "source": self.source,
                "tools": dict(self.tools),
                "created": self.created,
                "defaults": dict(self.defaults),
            },
            indent=2,
            sort_keys=True,
            ensure_ascii=False,
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """The manifest in `text`. BundleError names the first field that is missing or malformed.

        Fields that this version does not know are skipped.
        """
        with within(MANIFEST_NAME):
            fields = JsonFields.parse(text)
            return cls(
                format_version=_understood(fields.integer("format_version")),
                family=fields.text("family"),
                components=fields.convert_each("components", _component_from_fields),
                files=fields.convert_each("files", file_from_fields),
                source=fields.text("source"),
                tools=fields.convert("tools", _texts_from_fields),
                created=_iso_time(fields.text("created")),
                defaults=fields.child("defaults").values,
            )


def write_manifest(root: Path, manifest: Manifest) -> None:
    """`sdrt.json` in the folder `root`."""
    (root / MANIFEST_NAME).write_text(manifest.to_json() + "\n", encoding="utf-8")


def _understood(version: int) -> int:
    if version != FORMAT_VERSION:
        raise BundleError(
            f"format_version: got {version}, this sdrt reads {FORMAT_VERSION}: "
            "use the sdrt that made the bundle, or export it again"
        )
    return version


def _iso_time(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise BundleError(f"created: got '{text}', expected a date and time, ISO 8601") from error
    return text


def _json_from_component(component: Component) -> dict[str, Any]:
    parity = component.parity
    described: dict[str, Any] = {
        "name": component.name,
        "model": component.model,
        "signature": {
            "inputs": [_json_from_tensor(spec) for spec in component.signature.inputs],
            "outputs": [_json_from_tensor(spec) for spec in component.signature.outputs],
        },
        "precision": component.precision,
        "files": [vars(file) for file in component.files],
        "parity": parity
        and {
            "max_abs": parity.max_abs,
            "psnr": parity.psnr if math.isfinite(parity.psnr) else None,
        },
    }
    if component.source is not None:
        described["source"] = component.source
    if component.tools:
        described["tools"] = dict(component.tools)
    return described


def _component_from_fields(fields: JsonFields) -> Component:
    has_parity = fields.values.get("parity") is not None
    return Component(
        name=fields.text("name"),
        model=fields.text("model"),
        signature=fields.convert("signature", _signature_from_fields),
        precision=fields.text("precision"),
        files=fields.convert_each("files", file_from_fields),
        parity=fields.convert("parity", _parity_from_fields) if has_parity else None,
        source=fields.text("source") if "source" in fields.values else None,
        tools=fields.convert("tools", _texts_from_fields) if "tools" in fields.values else {},
    )


def file_from_fields(fields: JsonFields) -> FileRecord:
    """A record as manifests and the records of built engines hold it."""
    return FileRecord(fields.text("path"), fields.text("sha256"), fields.integer("size"))


def _parity_from_fields(fields: JsonFields) -> Parity:
    return Parity(fields.number("max_abs"), fields.number("psnr", default=math.inf))


def _json_from_tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype.name, "shape": list(spec.shape)}


def _signature_from_fields(fields: JsonFields) -> Signature:
    return Signature(
        inputs=fields.convert_each("inputs", _tensor_from_fields),
        outputs=fields.convert_each("outputs", _tensor_from_fields),
    )


def _tensor_from_fields(fields: JsonFields) -> TensorSpec:
    dtype = fields.text("dtype")
    if dtype not in DTYPES:
        raise BundleError(f"dtype: got '{dtype}', {did_you_mean(dtype, DTYPES)}")
    return TensorSpec(fields.text("name"), DTYPES[dtype], tuple(fields.array("shape")))


def _texts_from_fields(fields: JsonFields) -> dict[str, str]:
    return {name: fields.text(name) for name in fields.values}
