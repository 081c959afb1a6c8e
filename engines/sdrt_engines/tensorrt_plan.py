"""The `tensorrt` and `tensorrt-rtx` backends: why a plan does not run here, and how it opens.

They differ in that TensorRT-RTX captures CUDA graphs itself and keeps what it compiles for this GPU
in a cache. `open_plan` opens a plan, `plan_engine` runs it, `plan_set` runs several as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from sdrt_engines.backend import Backend, PlanFile, Source
from sdrt_engines.cuda_device import gpu_architecture, shared_device
from sdrt_engines.engine import Engine
from sdrt_engines.errors import EngineError
from sdrt_engines.nvidia_driver import gpus
from sdrt_engines.open_plan import OpenPlan
from sdrt_engines.plan_engine import PlanEngine
from sdrt_engines.shape_profiles import Profile
from sdrt_engines.tensor import Signature
from sdrt_engines.tensorrt_library import (
    import_tensorrt,
    module_of,
    require_installed,
    tensorrt_errors,
    tensorrt_log,
)

TensorRT: TypeAlias = Literal["tensorrt", "tensorrt-rtx"]

LIBRARIES: Final[Mapping[TensorRT, str]] = {name: module_of(name) for name in get_args(TensorRT)}

# Of TensorRT-RTX's `ComputeCapability`. A plan that was built for none in particular runs on all
# but the first: "8.0, 8.6, 8.9, 12.0, and later",
# https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html
RTX_ARCHITECTURES: Final = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
_RTX_DEFAULT = RTX_ARCHITECTURES[1:]


def library_version(backend: TensorRT) -> str:
    """The version of the installed library; EngineError with the pip command if it is missing."""
    return str(import_tensorrt(backend).__version__)


def tensorrt_refusal(backend: TensorRT) -> str | None:
    """The reason why this backend cannot open here, or None."""
    if reason := gpu_refusal(backend):  # first: no package that could be installed helps
        return reason
    try:
        require_installed(backend)  # not imported yet: slow, and useless without a GPU
        gpu_architecture()
        import_tensorrt(backend)
    except EngineError as error:
        return str(error)
    return None


def gpu_refusal(backend: TensorRT) -> str | None:
    """The reason why the backend runs no plan on this machine's GPU; None if it does, or without a
    GPU."""
    gpu = next(iter(gpus()), None)
    if backend != "tensorrt-rtx" or gpu is None or gpu.architecture in RTX_ARCHITECTURES:
        return None
    return (
        f"TensorRT-RTX does not support this GPU ({gpu.name}, {gpu.architecture}), expected one of "
        f"{', '.join(RTX_ARCHITECTURES)}: take the target cuda or tensorrt"
    )


def plan_refusal(
    *,
    library: str,
    built_with: str,
    installed: str,
    built_for: Sequence[str],
    architecture: str,
) -> str | None:
    """The reason why a plan does not run here, or None.

    An empty `built_for` is TensorRT-RTX's own choice.
    """
    if built_with != installed:
        return f"it was built with {library} {built_with}, {installed} is installed"
    built_for = built_for or _RTX_DEFAULT
    if architecture not in built_for:
        return f"it was built for {', '.join(built_for)}, this GPU is {architecture}"
    return None


def engine_from_plans(source: Source, backend: TensorRT) -> Engine:
    """The plans of the source that fit this machine as one engine; each run takes the plan and
    profile for its shapes.

    EngineError if no plan fits, with the reason for each, or the machine has no GPU or TensorRT.
    """
    from sdrt_engines.plan_set import Plan, PlanSet  # not needed for `import sdrt`

    if reason := tensorrt_refusal(backend):
        raise EngineError(f"{source.name}: {reason}")
    files = fitting_plans(source, version=library_version(backend), architecture=gpu_architecture())
    plans = [
        Plan(
            file.profiles,
            partial(
                engine_from_plan,
                file.path,
                name=source.name,
                backend=backend,
                signature=source.signature,
                profiles=file.profiles,
                kernels=file.kernels,
            ),
        )
        for file in files
    ]
    return plans[0].open() if len(plans) == 1 else PlanSet(source.signature, source.name, plans)


def fitting_plans(source: Source, *, version: str, architecture: str) -> list[PlanFile]:
    """The unchanged plans of this source that were built for this version and GPU. EngineError with
    the reason for each if no plan remains.
    """
    reasons, fitting = [], []
    for plan in source.plans:
        reason = plan.fault or plan_refusal(
            library=plan.library,
            built_with=plan.library_version,
            installed=version,
            built_for=plan.architectures,
            architecture=architecture,
        )
        reason = reason or plan.damage()
        if reason is None:
            fitting.append(plan)
        else:
            reasons.append(f"{plan.path.name}: {reason}")
    if fitting:
        return fitting
    found = "; ".join(reasons) or "there are no plans"
    raise EngineError(f"{source.name}: no plan of this bundle runs here: {found}: {source.remedy}")


def engine_from_plan(
    path: Path,
    *,
    name: str,
    backend: TensorRT,
    signature: Signature,
    profiles: Sequence[Profile],
    kernels: Path | None = None,
) -> Engine:
    """The network in the plan at `path`, on this machine's first GPU.

    The folder `kernels` keeps what TensorRT-RTX compiles for this GPU, for the next process.

    The plan must be complete and made for this machine: TensorRT itself crashes on some that are
    not. EngineError if it still does not open.
    """
    if reason := tensorrt_refusal(backend):
        raise EngineError(reason)
    device = shared_device()  # first: it makes the CUDA context that TensorRT needs
    with tensorrt_errors(lambda: f"{name}: the plan {path.name} cannot be read"):
        content = path.read_bytes()  # before the turn: other engines go on meanwhile
    try:
        with device.turn:
            plan = OpenPlan(
                import_tensorrt(backend),
                tensorrt_log(backend),
                content,
                name=name,
                device=device,
                captures_itself=backend == "tensorrt-rtx",
                kernels=kernels and kernels / f"{gpu_architecture()}.kernels",
            )
            return PlanEngine(signature, name, profiles, plan, device)
    finally:
        device.free_orphans()


def _backend(name: TensorRT, architectures: tuple[str, ...]) -> Backend:
    return Backend(
        name=name,
        packages=(name,),
        refusal=lambda target: tensorrt_refusal(name),
        open=lambda source, target, num_threads: engine_from_plans(source, name),
        runs="plans",
        architectures=architectures,
    )


TENSORRT = _backend(
    "tensorrt", ("sm75", "sm80", "sm86", "sm87", "sm89", "sm90", "sm100", "sm120", "sm121")
)
TENSORRT_RTX = _backend("tensorrt-rtx", RTX_ARCHITECTURES)
