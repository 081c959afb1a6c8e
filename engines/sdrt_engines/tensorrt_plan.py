"""The `tensorrt` and `tensorrt-rtx` backends: why a plan does not run here, and how it opens.

The only file that imports their libraries, when they are needed. Both have the same interface. They
differ in that TensorRT-RTX captures CUDA graphs itself and keeps what it compiles for this GPU in a
cache. `plan_engine` runs an open plan, `plan_set` runs several as one.

No plan has been opened on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from sdrt_engines.backend import Backend, PlanFile, Source
from sdrt_engines.cuda_device import gpu_architecture, shared_device
from sdrt_engines.engine import Engine
from sdrt_engines.errors import EngineError, raise_interrupt
from sdrt_engines.kernel_file import read_kernels, write_kernels
from sdrt_engines.plan_engine import PlanEngine
from sdrt_engines.shape_profiles import Profile
from sdrt_engines.tensor import Signature

TensorRT: TypeAlias = Literal["tensorrt", "tensorrt-rtx"]

LIBRARIES: Final[Mapping[TensorRT, str]] = {
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
}


def library_version(backend: TensorRT) -> str:
    """The version of the installed library; EngineError with the pip command if it is missing."""
    return str(_library(backend).__version__)


def tensorrt_refusal(backend: TensorRT) -> str | None:
    """The reason why this backend cannot open here, or None."""
    try:
        _require_installed(backend)  # not imported yet: slow, and useless without a GPU
        gpu_architecture()
        _library(backend)
    except EngineError as error:
        return str(error)
    return None


def plan_refusal(
    *,
    library: str,
    built_with: str,
    installed: str,
    built_for: Sequence[str],
    architecture: str,
) -> str | None:
    """The reason why a plan does not run here, or None.

    An empty `built_for` is TensorRT-RTX's own choice: Ampere and later.
    """
    if built_with != installed:
        return f"it was built with {library} {built_with}, {installed} is installed"
    fits = architecture in built_for if built_for else int(architecture[2:]) >= 80
    if not fits:
        made_for = ", ".join(built_for) or "sm80 and later"
        return f"it was built for {made_for}, this GPU is {architecture}"
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
    return PlanEngine(signature, name, profiles, _OpenPlan(path, name, backend, kernels), device)


class _OpenPlan:
    """A plan opened by TensorRT."""

    def __init__(self, path: Path, name: str, backend: TensorRT, kernels: Path | None) -> None:
        self._trt, self._name = _library(backend), name
        self.captures_itself = backend == "tensorrt-rtx"
        self._kernels = kernels and kernels / f"{gpu_architecture()}.kernels"
        self._cache: Any = None
        runtime = self._trt.Runtime(_logger(backend))
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise EngineError(f"{name}: {backend} does not open its plan: run `sdrt build` again")
        self._runtime, self._engine = runtime, engine
        self.context = self._new_context()

    def scratch_size(self, profile: int) -> int:
        size: int = self._engine.get_device_memory_size_for_profile_v2(profile)
        return size

    def close(self) -> None:
        self._save_cache()
        # in this order: a context needs its engine, an engine its runtime
        self.context = self._engine = self._runtime = None

    def _new_context(self) -> Any:
        strategies = self._trt.ExecutionContextAllocationStrategy
        if not self.captures_itself:
            return self._engine.create_execution_context(strategies.USER_MANAGED)
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategies.USER_MANAGED)
        config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._cache = config.create_runtime_cache()
        kept = self._kernels and read_kernels(self._kernels)
        if kept:  # TensorRT ignores those of another driver, GPU or version
            self._cache.deserialize(kept)
        config.set_runtime_cache(self._cache)
        return self._engine.create_execution_context(config)

    def _save_cache(self) -> None:
        """Saves what was compiled for this GPU, for the next process. A failure is harmless."""
        if self._cache is None or self._kernels is None:
            return
        try:
            write_kernels(self._kernels, bytes(self._cache.serialize()))
        except OSError as error:
            import logging  # rarely needed, and slow to import

            logging.getLogger("sdrt").info("%s keeps no compiled kernels: %s", self._name, error)


def _require_installed(backend: TensorRT) -> None:
    if find_spec(LIBRARIES[backend]) is None:
        raise EngineError(f"{LIBRARIES[backend]} is not installed: pip install 'sdrt[{backend}]'")


def _library(backend: TensorRT) -> Any:
    _require_installed(backend)
    module = LIBRARIES[backend]
    try:
        return import_module(module)
    except (ImportError, OSError) as error:  # OSError: a library that it needs is missing
        raise_interrupt(error)
        raise EngineError(
            f"{module} cannot be imported ({error}): pip install 'sdrt[{backend}]'"
        ) from error


@cache
def _logger(backend: TensorRT) -> Any:
    """A logger for the whole process, as TensorRT keeps the first one forever."""
    trt = _library(backend)
    return trt.Logger(trt.Logger.ERROR)


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
TENSORRT_RTX = _backend("tensorrt-rtx", ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121"))
