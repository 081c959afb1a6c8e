"""A component's plans in a bundle, in the form from which backends choose."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from sdrt.bundle.file_records import verify_file
from sdrt.bundle.manifest import Component
from sdrt.errors import BundleError, SdrtError
from sdrt.files.cache import cache_folder
from sdrt.targets.plan_record import PlanRecord, onnx_digests, records_of
from sdrt_engines import PlanFile

_KEY_LENGTH = 32  # hexadecimal digits


def plan_files(root: Path, component: Component, backend: str) -> tuple[PlanFile, ...]:
    """All plans of `component` in the bundle at `root`, newest first, whether they fit or not."""
    records = list(records_of(root, backend, component.name))
    digests = onnx_digests(root, component) if records else {}
    return tuple(_plan_file(root, record, digests) for record in records)


def _plan_file(root: Path, record: PlanRecord, onnx: Mapping[str, str]) -> PlanFile:
    made_of = record.ingredients
    return PlanFile(
        path=root / record.plan.path,
        profiles=made_of.profiles,
        precision=made_of.precision,
        library=made_of.library,
        library_version=made_of.library_version,
        architectures=made_of.architectures,
        fault=None if made_of.onnx == onnx else "it was built from another ONNX file",
        damage=partial(_damage, root, record),
        kernels=_kernels_of(record),
    )


def _kernels_of(record: PlanRecord) -> Path | None:
    """The folder for kernels compiled from a plan, named after the plan's hash; None without a
    cache folder."""
    assert record.plan.sha256 is not None
    try:
        return cache_folder() / "kernels" / record.plan.sha256[:_KEY_LENGTH]
    except SdrtError:  # no home folder
        return None


def _damage(root: Path, record: PlanRecord) -> str | None:
    try:
        verify_file(root, record.plan)
    except BundleError as error:
        return str(error)
    return None
