"""Measurements of `sdrt tune` on other machines: real step times, or made-up ones. No clock runs
and no engine opens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sdrt.bundle.folder import Bundle
from sdrt.targets.tuned import Shape, Tuning
from sdrt.targets.tuned_file import write_tuning
from sdrt.tuning.candidates import Candidate, NumThreads, candidates_of
from sdrt.tuning.rounds import Measures, Part, Plan
from sdrt.tuning.tune import tune
from sdrt_engines import BACKENDS, Backends, EngineError, Target
from support.backends import opening

INTEL = {"cpu": 5.8, "openvino": 8.0, "openvino:bf16": 10.0}  # seconds per step, without AMX
AMD = {"cpu": 4.6, "openvino": 4.1, "openvino:bf16": 2.2}  # with bfloat16
SHAPE = Shape(512, 512)
NUM_STEPS = 50
ALL: Backends = [opening(backend.name) for backend in BACKENDS]


def invented(
    steps: Mapping[str, float | Exception], psnr: Mapping[str, float | Exception] | None = None
) -> Measures:
    """Measures targets by these seconds per step. A target may be written with a number of threads,
    as `cpu with 2 threads`; text takes 0.1 s and an image 1 s to decode. An exception is raised."""
    ends: Mapping[Part, float] = {"text": 0.1, "decode": 1.0}

    def seconds(candidate: Candidate, shape: Shape, part: Part) -> float:
        step = found(steps, str(candidate), str(candidate.target))
        pixels = shape.batch * shape.width * shape.height / (512 * 512)
        return pixels * ends.get(part, step)

    return Measures(seconds, lambda target: found(psnr or {}, str(target), default=60.0))


def found(
    values: Mapping[str, float | Exception], *names: str, default: float | None = None
) -> float:
    value = next((values[name] for name in names if name in values), default)
    if isinstance(value, Exception):
        raise value
    assert value is not None, f"nobody measures {names[0]}"
    return value


def plan_for(
    bundle: Bundle,
    targets: Sequence[str],
    num_threads: Sequence[NumThreads] = (None,),
    shapes: tuple[Shape, ...] = (SHAPE,),
) -> Plan:
    candidates = candidates_of(bundle, [*map(Target.parse, targets)], num_threads, ALL)
    return Plan(candidates, shapes)


def tuned_with(
    bundle: Bundle,
    steps: Mapping[str, float | Exception],
    psnr: Mapping[str, float | Exception] | None = None,
    num_threads: Sequence[NumThreads] = (None,),
) -> Tuning:
    """The verdict on a bundle whose targets take these times, recorded for this machine."""
    targets = dict.fromkeys(name.partition(" with ")[0] for name in steps)
    plan = plan_for(bundle, tuple(targets), num_threads)
    tuning = tune(bundle, plan, invented(steps, psnr), NUM_STEPS)
    write_tuning(bundle, tuning)
    return tuning


OUT_OF_MEMORY = EngineError("unet: out of memory")
