"""The manifest, `sdrt.json`: the contents of a bundle, its tools, and its distance to torch."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

from sdrt import tensor_names as names
from sdrt.errors import BundleError
from sdrt.families.family import Family, LatentSpace, Role, require_plain_name
from sdrt.files.json_fields import JsonFields, within
from sdrt.files.records import MaybeInfinite, json_from_record, record_from_json
from sdrt.recommended import check_recommended
from sdrt_engines import Signature

ENGINES = "engines"  # the folder for files built for a target
MANIFEST_NAME = "sdrt.json"
FORMAT_VERSION = 2
RESIDUALS = "residuals"  # the `takes` of a denoiser for ControlNets
TINY = "tiny"  # the `variant` of a tiny VAE


@dataclass(frozen=True)
class FileRecord:
    """A file at the time of the export. `path` is relative to the bundle, with slashes.

    `sha256` is None in a folder without a manifest: the hash was not recorded.
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
        if self.sha256 is not None:
            _require_sha256(self.sha256)
        if self.size < 0:
            raise BundleError(f"size: got {self.size}, expected a number of bytes")


@dataclass(frozen=True)
class Parity:
    """The distance to torch, measured at export: greatest absolute error, and PSNR in dB.

    Equal outputs have an infinite PSNR.
    """

    max_abs: float
    psnr: MaybeInfinite

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_abs) and self.max_abs >= 0):
            raise BundleError(f"max_abs: got {self.max_abs}, expected a finite number from 0 on")
        if math.isnan(self.psnr) or self.psnr == -math.inf:
            raise BundleError(f"psnr: got {self.psnr}, expected a number of decibels")


@dataclass(frozen=True)
class Component:
    """One network of the bundle. `model` is its ONNX file, one of `files`; two may share a file.

    `takes` names the inputs that make it a variant of a denoiser: `residuals` of ControlNets.
    `variant` is the word by which a request chooses it in place of the network without one: `tiny`
    of a VAE, which has `latents` of its own scale. A network that was added later, or that is not
    the checkpoint's, has its own `source` and `tools`.
    """

    name: str
    role: Role
    model: str
    signature: Signature
    precision: str  # of the weights: "float32"
    files: tuple[FileRecord, ...]
    parity: Parity | None = None
    takes: frozenset[str] = frozenset()
    variant: str | None = None
    latents: LatentSpace | None = None  # None: the family's
    source: str | None = None
    tools: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_plain_name("name", self.name)
        if self.role == "controlnet" and names.controlnet_of(self.name) == self.name:
            expected = names.controlnet(self.name)
            raise BundleError(f"name: got '{self.name}', expected '{expected}' for a ControlNet")
        if self.model not in (file.path for file in self.files):
            raise BundleError(f"model: got '{self.model}', expected one of the component's files")


MergedKind: TypeAlias = Literal["lora", "embedding"]


@dataclass(frozen=True)
class Merged:
    """A file that was merged into the networks of the checkpoint.

    `name` is that of the file, without folders and suffix. `short_hash` is what A1111 and Civitai
    know it by: the first 12 digits, for a LoRA of the hash of its tensors alone.
    """

    kind: MergedKind
    name: str
    sha256: str  # of the whole file
    short_hash: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        _require_sha256(self.sha256)
        if not re.fullmatch(r"[0-9a-f]{12}", self.short_hash):
            raise BundleError(
                f"short_hash: got '{self.short_hash}', expected 12 hexadecimal digits"
            )


@dataclass(frozen=True)
class Manifest:
    """The contents of `sdrt.json`. `files` belong to no network: tokenizer, scheduler, configs."""

    family: Family
    components: tuple[Component, ...]
    files: tuple[FileRecord, ...]
    source: str  # of the export: a folder, or an id on the Hub
    tools: Mapping[str, str]  # library → version, at export
    created: str  # ISO 8601
    defaults: Mapping[str, Any] = field(default_factory=dict)  # {"guidance_scale": 5.0}
    merged: tuple[Merged, ...] = ()  # in the order in which they were applied

    def __post_init__(self) -> None:
        all_names = [component.name for component in self.components]
        # On Windows and macOS names that differ only in case are one folder.
        if not all_names or len(set(map(str.casefold, all_names))) < len(all_names):
            raise BundleError(
                f"components: got {all_names}, expected at least one, each name once in any case"
            )
        check_recommended(self.defaults)
        try:
            datetime.fromisoformat(self.created)
        except ValueError as error:
            raise BundleError(
                f"created: got '{self.created}', expected a date and time, ISO 8601"
            ) from error

    def to_json(self) -> str:
        """Indented, with sorted keys, so that two manifests can be compared line by line."""
        document = {"format_version": FORMAT_VERSION, **json_from_record(self)}
        return json.dumps(
            sealed(document),
            indent=2,
            sort_keys=True,
            ensure_ascii=False,
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """The manifest in `text`.

        BundleError for another format or a changed text, or naming the first field that is missing,
        malformed or unknown.
        """
        with within(MANIFEST_NAME):
            fields = JsonFields.parse(text)
            _require_format(fields)
            require_digest(fields, "export it again")
            manifest = record_from_json(cls, _without(fields.values, "digest", "format_version"))
            manifest._require_hashes()
            return manifest

    @property
    def has_hashes(self) -> bool:
        """False for a folder without `sdrt.json`."""
        return all(record.sha256 is not None for record in self.all_files)

    @property
    def all_files(self) -> tuple[FileRecord, ...]:
        """The records of all files; networks that share a file repeat it."""
        return (*self.files, *(file for each in self.components for file in each.files))

    def _require_hashes(self) -> None:
        for record in self.all_files:
            if record.sha256 is None:
                raise BundleError(f"'{record.path}' has no sha256: export it again")


def _require_sha256(text: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise BundleError(f"sha256: got '{text}', expected 64 hexadecimal digits")


def file_from_fields(fields: JsonFields) -> FileRecord:
    """A file's record with its hash, in the form of the records of built engines."""
    return FileRecord(fields.text("path"), fields.text("sha256"), fields.integer("size"))


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Writes `sdrt.json` to the folder `root`. Invalid bytes in paths become JSON escapes."""
    path, text = root / MANIFEST_NAME, manifest.to_json() + "\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _require_format(fields: JsonFields) -> None:
    version = fields.integer("format_version")
    if version == FORMAT_VERSION:
        return
    if version > FORMAT_VERSION:
        raise BundleError(
            f"format_version: got {version}, expected {FORMAT_VERSION}: use the sdrt version that "
            "made the bundle"
        )
    source = fields.text("source", default="CHECKPOINT")
    raise BundleError(
        f"format_version: got {version}, expected {FORMAT_VERSION}: export it again with "
        f"`sdrt export {shlex.quote(source)} -o NEW_BUNDLE`"
    )


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object of a bundle with its digest: the SHA-256 of the rest as JSON without spaces,
    keys sorted."""
    rest = _without(document, "digest")
    try:
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    except RecursionError as error:
        raise BundleError("it is nested too deeply") from error
    return rest | {"digest": hashlib.sha256(text.encode()).hexdigest()}


def require_digest(fields: JsonFields, remedy: str) -> None:
    """BundleError, with this remedy, if a sealed JSON object has changed."""
    digest = fields.text("digest")
    if digest != sealed(fields.values)["digest"]:
        raise BundleError(
            f"digest: got '{digest[:64]}', but the rest has changed since it was written: {remedy}"
        )


def _without(document: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}
