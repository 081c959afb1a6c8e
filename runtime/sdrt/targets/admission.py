"""The rules of `auto`: GPUs if their build is close enough to float32, CPUs in float32.

A named target opens regardless.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Component, FileRecord
from sdrt.parameters import Speed
from sdrt.targets.built_graph import HalfGraph
from sdrt.targets.plan_record import onnx_digests, records_of
from sdrt.targets.runnable import NETWORK_PRECISION
from sdrt_engines import Backend, Target, backend_of

if TYPE_CHECKING:
    from sdrt.targets.tuned import TunedTarget

MIN_PSNR = 30.0  # dB
# Precisions that `auto` takes in addition to a backend's default, if `sdrt tune` found them faster.
PRECISIONS: Mapping[Speed, tuple[str, ...]] = {
    "exact": (),
    "balanced": ("bf16",),
    "fast": ("bf16", "int8"),
}
MIN_PSNR_AT: Mapping[Speed, float] = {"exact": MIN_PSNR, "balanced": 35.0, "fast": 28.0}  # of these


@dataclass(frozen=True)
class _Built:
    """A file that a backend runs in place of a network, as recorded."""

    component: str
    files: tuple[FileRecord, ...]
    psnr: float | None  # dB; None: the build changed nothing


def refusal_of_built(bundle: Bundle, backend: Backend) -> str | None:
    """The reason why `auto` rejects what was built for a backend, or None. Nothing was measured
    here: the build's own figure decides."""
    for component in bundle.manifest.components:
        for built in _built_for(bundle.root, component, backend):
            reason = _damage(bundle.root, built) or refusal_of_psnr(built.psnr)
            if reason is not None:
                return f"{built.component}: {reason}"
    return None


def refusal_of_measured(found: TunedTarget, speed: Speed = "exact") -> str | None:
    """The reason why `auto` rejects a target that `sdrt tune` tried, or None."""
    if found.error is not None:
        return f"it failed when it was tuned: {found.error}"
    target = Target.parse(found.target)
    expected = MIN_PSNR if target.precision is None else MIN_PSNR_AT[speed]
    return refusal_of_precision(target, speed) or refusal_of_psnr(found.psnr, expected)


def refusal_of_precision(target: Target, speed: Speed = "exact") -> str | None:
    """The reason why `auto` rejects a target's precision, if that is chosen at run time."""
    precision = backend_of(target).chosen_precision(target)
    if precision in (None, NETWORK_PRECISION, *PRECISIONS[speed]):
        return None
    return f"it computes in {precision}: name it to use it"


def refusal_of_psnr(psnr: float | None, expected: float = MIN_PSNR) -> str | None:
    """The reason why `auto` rejects this PSNR; None means equal."""
    if psnr is None or psnr >= expected:
        return None
    return (
        f"it is {psnr:.1f} dB from float32, expected {expected:.0f} dB or more: build it in "
        "another precision, or name it to use it anyway"
    )


def _built_for(root: Path, component: Component, backend: Backend) -> Iterator[_Built]:
    if backend.runs == "half graph":
        if graph := HalfGraph.of(root, backend.name, component):
            yield _Built(component.name, graph.files, graph.psnr)
    elif backend.runs == "plans":
        records = list(records_of(root, backend.name, component.name))
        digests = onnx_digests(root, component) if records else {}
        for record in records:
            if record.ingredients.onnx == digests:
                yield _Built(component.name, (record.plan,), record.psnr)


def _damage(root: Path, built: _Built) -> str | None:
    """Damage that is visible from the sizes of the files; hashes are compared when they open."""
    for file in built.files:
        path = root / file.path
        if not path.is_file() or path.stat().st_size != file.size:
            return f"{path} is missing or has changed: run `sdrt build` again"
    return None
