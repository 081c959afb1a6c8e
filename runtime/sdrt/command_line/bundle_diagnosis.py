"""The part of `sdrt doctor BUNDLE` about the bundle: the choice of `auto`, and its reasons."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from rich.console import Console

from sdrt.bundle.demo import DEMO, is_demo
from sdrt.bundle.folder import Bundle
from sdrt.command_line.speed_meanings import Meaning, meanings_of
from sdrt.command_line.verdict_tables import print_verdict
from sdrt.errors import SdrtError
from sdrt.pipeline import Pipeline
from sdrt.request import Request
from sdrt.targets.forecast import memory_text
from sdrt.targets.resolving import resolve
from sdrt.targets.tuned import Tuning
from sdrt.targets.tuned_file import verdicts_on
from sdrt_engines import BACKENDS, TargetError

_UNTUNED = "not tuned on this machine: `sdrt tune {}` measures which target is the fastest"
_STALE = "{} does not count: {}: run `sdrt tune` again"


@dataclass(frozen=True)
class VerdictState:
    """A verdict of `sdrt tune` in the cache; `fault` is the reason why it does not hold."""

    path: str
    fault: str | None
    verdict: Tuning | None  # None if it cannot be read


@dataclass(frozen=True)
class RefusedTarget:
    """A target that `auto` passed over."""

    target: str
    reason: str


@dataclass(frozen=True)
class BundleDiagnosis:
    """The findings for one bundle on this machine."""

    path: str
    auto: str | None  # the target that "auto" takes
    num_threads: int | None  # None: the library's choice
    passed_over: tuple[RefusedTarget, ...]
    verdicts: tuple[VerdictState, ...]
    memory: Mapping[str, int]  # bytes that an image of the bundle's size takes, by target
    speeds: tuple[Meaning, ...] = ()  # what the presets stand for
    error: str | None = None  # why "auto" takes no target


def diagnosis_of_bundle(bundle: Bundle) -> BundleDiagnosis:
    path = DEMO if is_demo(bundle.root) else str(bundle.root)
    verdicts = tuple(
        VerdictState(str(found.path), found.fault, found.tuning) for found in verdicts_on(bundle)
    )
    memory = _memory(bundle)
    try:
        resolution = resolve(bundle)
    except TargetError as error:
        return BundleDiagnosis(path, None, None, (), verdicts, memory, (), str(error))
    refused = (RefusedTarget(str(each.target), each.reason) for each in resolution.refusals)
    target, num_threads = str(resolution.target), resolution.num_threads
    speeds = meanings_of(bundle)
    return BundleDiagnosis(path, target, num_threads, tuple(refused), verdicts, memory, speeds)


def _memory(bundle: Bundle) -> Mapping[str, int]:
    """The memory of an image on the targets that open, as far as it is known."""
    sizes = {}
    for backend in BACKENDS:
        with suppress(SdrtError):  # it does not open, or the bundle needs an input image
            pipe = Pipeline(bundle, resolve(bundle, backend.name))
            if backend.memory is not None:
                sizes[backend.name] = pipe.forecast(Request("an image")).peak
    return sizes


def print_bundle(found: BundleDiagnosis, console: Console, known: Collection[str]) -> None:
    """Prints the targets that `auto` skips for a reason that is not `known`, and the verdicts."""
    if found.error is not None:
        console.print(found.error, soft_wrap=True)
    for refused in found.passed_over:
        if refused.reason not in known:
            console.print(f"auto skips {refused.target}: {refused.reason}", soft_wrap=True)
    if found.memory:
        sizes = (f"{memory_text(size)} on {target}" for target, size in found.memory.items())
        console.print(f"an image takes about {', '.join(sizes)}", soft_wrap=True)
    for meaning in found.speeds:
        console.print(str(meaning), soft_wrap=True)
    if not found.verdicts:
        console.print(_UNTUNED.format(found.path), soft_wrap=True)
    for state in found.verdicts:
        _print_state(state, console)


def _print_state(state: VerdictState, console: Console) -> None:
    if state.fault is not None:
        console.print(_STALE.format(state.path, state.fault), soft_wrap=True)
    elif state.verdict is not None:
        console.print(f"tuned {state.verdict.created}: {state.path}", soft_wrap=True)
        console.print()
        print_verdict(state.verdict, console)
