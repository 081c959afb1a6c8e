"""A bundle's networks to TensorRT plans: existing plans stay, missing ones are built.

Nothing here imports torch. A plan appears complete, then its record; a plan without a record does
not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sdrt.bundle.file_records import sealed_file, verify_file, verify_network
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import ENGINES, Component
from sdrt.bundle.optimum_folder import MODEL_NAME
from sdrt.errors import SdrtError
from sdrt.files.atomic import appearing_file
from sdrt.files.drafts import scratch_in
from sdrt.targets.plan_record import (
    Ingredients,
    PlanRecord,
    onnx_digests,
    plan_path,
    read_record,
    records_of,
    write_record,
)
from sdrt.text.versions import MAX_CHUNKS
from sdrt_engines import Backend, Target
from sdrt_engines.cuda_device import gpu_architecture
from sdrt_engines.shape_profiles import Range
from sdrt_engines.tensorrt_plan import (
    LIBRARIES,
    TENSORRT,
    TENSORRT_RTX,
    TensorRT,
    gpu_refusal,
    library_version,
)
from sdrt_export.building.builder import Builder, BuildOptions
from sdrt_export.building.half_graphs import write_half_graph
from sdrt_export.building.image_shapes import ImageShapes, ShapesWanted, profiles_of_component
from sdrt_export.building.workplace import (
    build_alone,
    bytes_of_plans,
    disk_full_as_build_error,
    require_room,
)
from sdrt_export.errors import BuildError, require_libraries
from sdrt_export.options import Report
from sdrt_export.precision.policy import POLICY_VERSION, HalfType


@dataclass(frozen=True)
class _Compiler:
    """A library that builds plans, and its differences from the other one."""

    backend: Backend
    name: TensorRT  # the backend's
    rtx: bool  # selects the library in polygraphy
    needs_gpu: bool  # builds for the GPU in this machine; if not, for the target's architectures
    has_timing_cache: bool  # with one, TensorRT-RTX would look for a GPU


@dataclass(frozen=True)
class _Site:
    """The target of a build, its place, and its reports."""

    bundle: Bundle
    compiler: _Compiler
    architectures: tuple[str, ...]
    wanted: ShapesWanted
    half: HalfType
    report: Report

    @property
    def root(self) -> Path:
        return self.bundle.root

    @property
    def backend(self) -> TensorRT:
        return self.compiler.name


def _build_plans(
    compiler: _Compiler, bundle: Bundle, target: Target, options: BuildOptions, report: Report
) -> list[Path]:
    """Builds plans of the bundle's networks for `target`; returns the new ones.

    BuildError, and the errors of a broken bundle.
    """
    chosen = [bundle.component(name) for name in options.components] or bundle.manifest.components
    wanted = _wanted(bundle, options)
    for component in chosen:  # refuses impossible shapes before the first build
        profiles_of_component(component, wanted)
    architectures = _require_buildable(compiler, target)
    site = _Site(bundle, compiler, architectures, wanted, options.half, report)
    with build_alone(site.root, site.backend, report), disk_full_as_build_error(site.root):
        return _build_all(site, chosen, options.prune)


def _require_buildable(compiler: _Compiler, target: Target) -> tuple[str, ...]:
    """The architectures that plans for `target` are built for.

    BuildError or EngineError if they cannot be built on this machine.
    """
    library_version(compiler.name)  # EngineError with the command that installs it
    require_libraries(
        ["onnx", "polygraphy"], BuildError, "'sdrt build'", f"'sdrt[{compiler.name}]'"
    )
    return _architectures(compiler, target)


def _build_all(site: _Site, chosen: Sequence[Component], prune: bool) -> list[Path]:
    found = {component.name: _present(site, component) for component in chosen}
    missing = [component for component in chosen if found[component.name] is None]
    present = [record for record in found.values() if record is not None]
    for record in present:
        site.report(f"{record.ingredients.component}: already built")
    _require_room(site, missing)
    built = [_build(site, component) for component in missing]
    if prune:
        _prune(site, [*built, *present])
    return [site.root / record.plan.path for record in built]


def _present(site: _Site, component: Component) -> PlanRecord | None:
    """The plan for the component if it exists and is intact, else None."""
    from sdrt_export.precision.record import known_precision

    known = known_precision(site.bundle, component, site.half)
    if known is None:
        return None
    ingredients = _ingredients(site, component, known.precision, known.promoted)
    path = site.root / plan_path(site.backend, ingredients)
    if not path.with_suffix(".json").is_file():
        return None
    try:
        record = read_record(path.with_suffix(".json"))
        verify_file(site.root, record.plan)
    except SdrtError as error:
        site.report(f"{component.name}: building again: {error}")
        return None
    return record


def _build(site: _Site, component: Component) -> PlanRecord:
    from sdrt_export.building.plan_from_onnx import PlanJob, build_plan

    root = site.root
    verify_network(root, component.files)
    with scratch_in(root / ENGINES) as work:
        half = write_half_graph(site.bundle, component, site.half, work, site.report)
        ingredients = _ingredients(site, component, half.precision, half.promoted)
        path = plan_path(site.backend, ingredients)
        site.report(f"{component.name}: building")
        with appearing_file(root / path) as draft:
            job = PlanJob(
                model=work / MODEL_NAME,
                plan=draft,
                rtx=site.compiler.rtx,
                profiles=ingredients.profiles,
                architectures=site.architectures,
                timing_cache=_timing_cache(site, root / path),
            )
            figures = build_plan(component.name, job)
    record = PlanRecord(
        ingredients=ingredients,
        plan=sealed_file(root, path),
        psnr=half.psnr if math.isfinite(half.psnr) else None,
        reason=half.reason,
        created=datetime.now(UTC).isoformat(timespec="microseconds"),
        build=vars(figures),
    )
    write_record(root, record)
    return record


def _timing_cache(site: _Site, plan: Path) -> Path | None:
    """The file of measured kernels that all plans in the folder share, or None."""
    return plan.with_name("timing.cache") if site.compiler.has_timing_cache else None


def _ingredients(
    site: _Site, component: Component, precision: str, promoted: tuple[str, ...]
) -> Ingredients:
    return Ingredients(
        component=component.name,
        onnx=onnx_digests(site.root, component),
        precision=precision,
        promoted=promoted,
        policy=POLICY_VERSION,
        profiles=profiles_of_component(component, site.wanted),
        flags={"strongly_typed": True},
        library=LIBRARIES[site.backend],
        library_version=library_version(site.backend),
        architectures=site.architectures,
    )


def _architectures(compiler: _Compiler, target: Target) -> tuple[str, ...]:
    if not compiler.needs_gpu:
        if not target.architectures and (reason := gpu_refusal(compiler.name)):
            raise BuildError(f"{reason}, or name the GPUs to build for: '{target}:sm89'")
        return tuple(sorted(target.architectures))
    own = gpu_architecture()
    if target.architectures not in ((), (own,)):
        raise BuildError(
            f"target '{target}': TensorRT builds for the GPU that it finds, which is {own}: build "
            "there, or take tensorrt-rtx"
        )
    return (own,)


def _wanted(bundle: Bundle, options: BuildOptions) -> ShapesWanted:
    factor = bundle.family.latents.vae_scale_factor
    width, height = bundle.family.native_size
    parsed = tuple(map(ImageShapes.parse, options.shapes or [f"{width}x{height}"]))
    for shape in parsed:
        shape.require_multiple(factor)
    if not 1 <= options.chunks <= MAX_CHUNKS:
        raise BuildError(f"--chunks: got {options.chunks}, expected 1 to {MAX_CHUNKS}")
    try:
        batch = Range.parse(options.batch)
    except SdrtError as error:
        raise BuildError(f"--batch {options.batch}: {error}") from error
    return ShapesWanted(parsed, batch, bundle.family.text.num_tokens, factor, options.chunks)


def _require_room(site: _Site, missing: Sequence[Component]) -> None:
    weights = [
        sum(file.size for file in component.files) / (2 if component.precision == "float32" else 1)
        for component in missing
    ]
    names = ", ".join(component.name for component in missing)
    require_room(site.root, f"the plans of {names} need", bytes_of_plans(weights))


def _prune(site: _Site, kept: Sequence[PlanRecord]) -> None:
    """Removes other plans of these components, with their records."""
    plans = {record.plan.path for record in kept}
    components = {record.ingredients.component for record in kept}
    for record in records_of(site.root, site.backend):
        if record.ingredients.component in components and record.plan.path not in plans:
            plan = site.root / record.plan.path
            for path in (plan.with_suffix(".json"), plan):  # a link is removed, not its target
                path.unlink(missing_ok=True)
            site.report(f"{plan.name}: removed")


def _builder(compiler: _Compiler) -> Builder:
    return Builder(
        backend=compiler.backend,
        takes=frozenset({"components", "precision", "shapes", "batch", "chunks", "prune"}),
        require=partial(_require_buildable, compiler),
        build=partial(_build_plans, compiler),
    )


TENSORRT_PLANS = _builder(
    _Compiler(TENSORRT, "tensorrt", rtx=False, needs_gpu=True, has_timing_cache=True)
)
TENSORRT_RTX_PLANS = _builder(
    _Compiler(TENSORRT_RTX, "tensorrt-rtx", rtx=True, needs_gpu=False, has_timing_cache=False)
)
