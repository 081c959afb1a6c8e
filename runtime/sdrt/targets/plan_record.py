"""Plans in a bundle: `engines/<backend>/<component>-<key>.plan`, with a record next to each.

The key is a hash over all ingredients of the plan, so other ingredients give another file. The
existence of a file proves nothing: the record holds its hash, which is compared before use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sdrt.bundle.manifest import (
    ENGINES,
    Component,
    FileRecord,
    file_from_fields,
    require_digest,
    sealed,
)
from sdrt.errors import BundleError
from sdrt.files.atomic import appearing_file
from sdrt.files.json_fields import JsonFields, within
from sdrt_engines import SdrtError
from sdrt_engines.regular_file import read_regular
from sdrt_engines.shape_profiles import Profile

RECORD_VERSION = 2
_KEY_VERSION = 1  # of the ingredients: another one makes other plans of all
KEY_LENGTH = 16  # hexadecimal digits
PRECISIONS = ("int8", "bf16", "fp16", "fp32")  # of builds, lowest first


@dataclass(frozen=True)
class Ingredients:
    """Everything that determines a plan."""

    component: str
    onnx: Mapping[str, str]  # file → sha256
    precision: str  # "fp16"; "fp32" if half precision was not enough
    promoted: tuple[str, ...]  # nodes kept in float32 after running the network
    policy: int  # version of the precision policy
    profiles: tuple[Profile, ...]
    flags: Mapping[str, Any]  # other options of the builder
    library: str  # "tensorrt_rtx"
    library_version: str
    architectures: tuple[str, ...]  # empty: the library's default

    def to_json(self) -> dict[str, Any]:
        profiles = [profile.to_json() for profile in self.profiles]
        lists = {"promoted": list(self.promoted), "architectures": list(self.architectures)}
        return asdict(self) | {"profiles": profiles} | lists

    @property
    def key(self) -> str:
        """A hash that is equal for equal ingredients, on every machine and in every run."""
        text = json.dumps([_KEY_VERSION, self.to_json()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True)
class PlanRecord:
    """A plan at the time of its build."""

    ingredients: Ingredients
    plan: FileRecord  # relative to the bundle
    psnr: float | None  # dB against float32, executed on the CPU; None: nothing was changed
    created: str  # ISO 8601
    build: Mapping[str, Any] = field(default_factory=dict)  # seconds, peak memory: for people
    reason: str | None = None  # why everything stays float32

    def to_json(self) -> str:
        fields = {
            "record_version": RECORD_VERSION,
            "key": self.ingredients.key,
            "ingredients": self.ingredients.to_json(),
            "plan": vars(self.plan),
            "psnr": self.psnr,
            "created": self.created,
            "build": dict(self.build),
            "reason": self.reason,
        }
        return json.dumps(
            sealed(fields), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> PlanRecord:
        """BundleError if a field is missing or malformed, or the key does not match the rest."""
        fields = built_fields(text, RECORD_VERSION)
        psnr, reason = fields.values.get("psnr"), fields.values.get("reason")
        record = cls(
            ingredients=fields.convert("ingredients", _ingredients_from_fields),
            plan=fields.convert("plan", file_from_fields),
            psnr=None if psnr is None else fields.number("psnr"),
            created=fields.text("created"),
            build=fields.child("build").values,
            reason=None if reason is None else fields.text("reason"),
        )
        if fields.text("key") != record.ingredients.key:
            raise BundleError(
                f"key: got '{fields.text('key')}', the ingredients give "
                f"'{record.ingredients.key}': run `sdrt build` again"
            )
        return record


def plan_path(backend: str, ingredients: Ingredients) -> str:
    """The path of the plan in its bundle, with slashes. The record has the suffix `.json`."""
    return f"{ENGINES}/{backend}/{ingredients.component}-{ingredients.key}.plan"


def write_record(root: Path, record: PlanRecord) -> Path:
    path = (root / record.plan.path).with_suffix(".json")
    with appearing_file(path) as draft:
        draft.write_text(record.to_json() + "\n", encoding="utf-8")
    return path


def read_record(path: Path) -> PlanRecord:
    """The record in the file at `path`; BundleError if it is broken."""
    with within(str(path)):
        try:
            return PlanRecord.from_json(read_regular(path))
        except OSError as error:
            raise BundleError(f"cannot be read: {error.strerror}") from error


def records_of(root: Path, backend: str, component: str | None = None) -> Iterator[PlanRecord]:
    """The readable records of a backend's plans, newest first, without broken ones and those of
    files elsewhere."""
    found = []
    for path in (root / ENGINES / backend).glob("*.json"):
        try:
            record = read_record(path)
        except SdrtError:
            continue
        plan = plan_path(backend, record.ingredients)
        if record.plan.path != plan or path != (root / plan).with_suffix(".json"):
            continue
        if component in (None, record.ingredients.component):
            found.append(record)
    return iter(sorted(found, key=lambda record: record.created, reverse=True))


def built_fields(text: str | bytes, version: int) -> JsonFields:
    """The fields of a build's record; BundleError if it has another version or has changed."""
    fields = JsonFields.parse(text)
    if fields.integer("record_version") != version:
        raise BundleError(
            f"record_version: got {fields.values['record_version']}, expected {version}: "
            "run `sdrt build` again"
        )
    require_digest(fields, "run `sdrt build` again")
    return fields


def precision_from_fields(fields: JsonFields) -> str:
    """One of PRECISIONS; BundleError for any other."""
    precision = fields.text("precision")
    if precision not in PRECISIONS:
        raise BundleError(
            f"precision: got '{precision}', expected {', '.join(PRECISIONS)}: "
            "run `sdrt build` again"
        )
    return precision


def onnx_digests(root: Path, component: Component) -> dict[str, str]:
    """File → sha256 of the component's network: as recorded, else as it is now."""
    from sdrt.bundle.file_records import record_file

    digests = {}
    for file in component.files:
        known = file if file.sha256 is not None else record_file(root, file.path)
        assert known.sha256 is not None
        digests[file.path] = known.sha256
    return digests


def _ingredients_from_fields(fields: JsonFields) -> Ingredients:
    try:
        profiles = tuple(Profile.from_json(profile) for profile in fields.array("profiles"))
    except (AttributeError, TypeError) as error:
        raise BundleError("profiles: expected shapes of inputs: run `sdrt build` again") from error
    return Ingredients(
        component=fields.text("component"),
        onnx=fields.child("onnx").values,
        precision=precision_from_fields(fields),
        promoted=fields.texts("promoted"),
        policy=fields.integer("policy"),
        profiles=profiles,
        flags=fields.child("flags").values,
        library=fields.text("library"),
        library_version=fields.text("library_version"),
        architectures=fields.texts("architectures"),
    )
