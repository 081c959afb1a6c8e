"""int8: the precision of targets that run a bundle's int8 denoiser, if one was built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sdrt.bundle.folder import Bundle
from sdrt.notes import Note
from sdrt.targets.built_graph import Int8Graph
from sdrt.targets.tuned_file import tuning_of
from sdrt_engines import (
    BACKENDS,
    Backend,
    Settings,
    Target,
    TargetError,
    backend_of,
    refusal_of,
)
from sdrt_engines.backend import INT8
from sdrt_engines.processor import Processor, this_processor

# Linux's names of the instructions that multiply int8: x86's, then Arm's.
_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


def int8_graph_of(bundle: Bundle) -> Int8Graph | None:
    """The bundle's denoiser in int8; None if it was not built, or from other weights."""
    denoiser = bundle.find("denoiser")
    return None if denoiser is None else Int8Graph.of(bundle.root, INT8, denoiser)


def int8_refusal(bundle: Bundle, backend: Backend, target: Settings) -> str | None:
    """The reason why the bundle does not run on a target in int8, with a remedy, or None."""
    if backend.chosen_precision(target) != INT8 or int8_graph_of(bundle) is not None:
        return None
    return (
        f"'{bundle.root}' has no int8 denoiser of these weights: "
        f"`sdrt build {bundle.root} --precision int8` builds it"
    )


def int8_targets() -> tuple[Target, ...]:
    """Every target in int8, in the order of the backends."""
    return tuple(
        Target(backend.name, precision=INT8) for backend in BACKENDS if INT8 in backend.precisions
    )


def in_int8(target: Target) -> Target:
    """The target with its precision replaced; TargetError if it has no int8."""
    if INT8 not in backend_of(target).precisions:
        known = ", ".join(map(str, int8_targets()))
        raise TargetError(f"target '{target}' does not compute in int8: use one of {known}")
    return replace(target, precision=INT8)


def int8_target(bundle: Bundle, target: str) -> Target:
    """The target in int8. For `"auto"`, the fastest that opens here, as measured by `sdrt tune`,
    else the first in the order of the backends.

    TargetError if it has no int8.
    """
    if target != "auto":
        return in_int8(Target.parse(target))
    tuning = tuning_of(bundle)
    places = {} if tuning is None else {each.target: i for i, each in enumerate(tuning.ranking())}
    ordered = sorted(int8_targets(), key=lambda each: places.get(str(each), len(places)))
    opening = (each for each in ordered if refusal_of(backend_of(each), each) is None)
    return next(opening, ordered[0])


def notes_on_int8(bundle: Bundle, target: Target, components: Iterable[str]) -> Iterator[Note]:
    """Notes on a request that runs these networks, if the target computes in int8: the processor
    may be slow, and a denoiser may not have been built."""
    if backend_of(target).chosen_precision(target) != INT8:
        return
    if (slow := note_on_processor(target)) is not None:
        yield slow
    for name in components:
        owner, own = bundle.owner_of(name)
        component = owner.component(own)
        if component.role == "denoiser" and Int8Graph.of(owner.root, INT8, component) is None:
            yield Note(
                "not_in_int8", None, f"{name} computes in float32: int8 was not built for it"
            )


def note_on_processor(target: Target, processor: Processor | None = None) -> Note | None:
    """The note on a target in int8 if this processor has no instructions for it."""
    flags = (processor or this_processor()).flags
    if not flags or flags & _INT8_FLAGS:
        return None
    return Note(
        "slow_int8",
        None,
        f"{target}: this processor has no instructions for int8 (VNNI), so it is probably slower "
        f"than {target.backend}: compare them with sdrt bench",
    )
