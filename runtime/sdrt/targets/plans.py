"""Opens the plans of a bundle that this machine can run."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sdrt.bundle.file_records import verify_file
from sdrt.bundle.manifest import Component
from sdrt.errors import BundleError
from sdrt.targets.plan_record import PlanRecord, onnx_digests, records_of
from sdrt_engines import Engine, EngineError
from sdrt_engines.cuda_device import gpu_architecture
from sdrt_engines.plan_set import Plan, PlanSet
from sdrt_engines.tensorrt_plan import (
    TensorRT,
    engine_from_plan,
    library_version,
    plan_refusal,
    tensorrt_refusal,
)


def open_plan(root: Path, component: Component, backend: TensorRT) -> Engine:
    """The plans of `component` in the bundle at `root` that fit this machine, ready to run.

    Each is compared with its record first; a run takes the plan and profile for its shapes.
    EngineError where no plan fits, with the reason for each, or the machine has no GPU or no
    TensorRT.
    """
    if reason := tensorrt_refusal(backend):
        raise EngineError(f"{component.name}: {reason}")
    records = fitting_plans(
        root, component, backend, version=library_version(backend), architecture=gpu_architecture()
    )
    plans = [
        Plan(
            record.ingredients.profiles,
            partial(
                engine_from_plan,
                root / record.plan.path,
                name=component.name,
                backend=backend,
                signature=component.signature,
                profiles=record.ingredients.profiles,
            ),
        )
        for record in records
    ]
    return (
        plans[0].open() if len(plans) == 1 else PlanSet(component.signature, component.name, plans)
    )


def fitting_plans(
    root: Path, component: Component, backend: TensorRT, *, version: str, architecture: str
) -> list[PlanRecord]:
    """The records, newest first, of the plans that were made from this very network, for this
    library and GPU, and are what they were then. EngineError where there is none."""
    reasons, fitting = [], []
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
            fitting.append(record)
        else:
            reasons.append(f"{Path(record.plan.path).name}: {reason}")
    if fitting:
        return fitting
    told = "; ".join(reasons) or "it has none"
    raise EngineError(
        f"{component.name}: no plan of this bundle runs here: {told}: "
        f"`sdrt build {root} --target {backend}` makes one"
    )


def _damage(root: Path, record: PlanRecord) -> str | None:
    try:
        verify_file(root, record.plan)
    except BundleError as error:
        return str(error)
    return None
