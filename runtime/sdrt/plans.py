"""Opens the plan of a bundle that this machine can run."""

from __future__ import annotations

from pathlib import Path

from sdrt.errors import BundleError
from sdrt.file_records import verify_file
from sdrt.manifest import Component
from sdrt.plan_record import PlanRecord, onnx_digests, records_of
from sdrt_engines import Engine
from sdrt_engines.cuda_device import gpu_architecture
from sdrt_engines.tensorrt_plan import (
    TensorRT,
    engine_from_plan,
    library_version,
    plan_refusal,
    tensorrt_refusal,
)


def open_plan(root: Path, component: Component, backend: TensorRT) -> Engine:
    """The newest plan of `component` in the bundle at `root` that fits this machine, ready to run.

    A plan has several profiles: a run takes the one for its
    shapes. BundleError where no plan fits, with the reason for each; EngineError where the machine
    has no GPU or no TensorRT.
    """
    if reason := tensorrt_refusal(backend):
        raise BundleError(f"{component.name}: {reason}")
    record = choose_plan(
        root, component, backend, version=library_version(backend), architecture=gpu_architecture()
    )
    return engine_from_plan(
        root / record.plan.path,
        name=component.name,
        backend=backend,
        signature=component.signature,
        profiles=record.ingredients.profiles,
    )


def choose_plan(
    root: Path, component: Component, backend: TensorRT, *, version: str, architecture: str
) -> PlanRecord:
    """The record of the newest plan that was made from this very network, for this library and GPU,
    and is what it was then."""
    reasons = []
    for record in records_of(root, backend, component.name):
        made_of = record.ingredients
        reason = plan_refusal(
            library=made_of.library,
            built_with=made_of.library_version,
            installed=version,
            built_for=made_of.architectures,
            architecture=architecture,
        )
        if made_of.onnx != onnx_digests(root, component):
            reason = "it was built from another ONNX file"
        reason = reason or _damage(root, record)
        if reason is None:
            return record
        reasons.append(f"{Path(record.plan.path).name}: {reason}")
    told = "; ".join(reasons) or "it has none"
    raise BundleError(
        f"{component.name}: no plan of this bundle runs here: {told}: "
        f"`sdrt build {root} --target {backend}` makes one"
    )


def _damage(root: Path, record: PlanRecord) -> str | None:
    try:
        verify_file(root, record.plan)
    except BundleError as error:
        return str(error)
    return None
