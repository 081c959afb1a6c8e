"""What `auto` may take: a GPU if what was built for it is near enough to float32, a CPU in float32.

A named target opens all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Component, FileRecord
from sdrt.targets.built_graph import HalfGraph
from sdrt.targets.plan_record import onnx_digests, records_of
from sdrt.targets.runnable import NETWORK_PRECISION
from sdrt_engines import Backend, Target, backend_of

if TYPE_CHECKING:
    from sdrt.targets.tuned import TunedTarget

MIN_PSNR = 30.0  # dB


@dataclass(frozen=True)
class _Built:
    """What a backend runs in place of a network, as its record has it."""

    component: str
    files: tuple[FileRecord, ...]
    psnr: float | None  # dB; None: the build changed nothing


def refusal_of_built(bundle: Bundle, backend: Backend) -> str | None:
    """Why `auto` does not take what was built for a backend, or None. Nothing was measured here:
    it goes by what the build found."""
    for component in bundle.manifest.components:
        for built in _built_for(bundle.root, component, backend):
            reason = _damage(bundle.root, built) or refusal_of_psnr(built.psnr)
            if reason is not None:
                return f"{built.component}: {reason}"
    return None


def refusal_of_measured(found: TunedTarget) -> str | None:
    """Why `auto` does not take a target that `sdrt tune` tried, or None."""
    if found.error is not None:
        return f"it failed when it was tuned: {found.error}"
    return refusal_of_precision(Target.parse(found.target)) or refusal_of_psnr(found.psnr)


def refusal_of_precision(target: Target) -> str | None:
    """Why `auto` does not take what a target computes in, if that is chosen at run time."""
    precision = backend_of(target).chosen_precision(target)
    if precision in (None, NETWORK_PRECISION):
        return None
    return f"it computes in {precision}: name it to use it"


def refusal_of_psnr(psnr: float | None) -> str | None:
    """Why `auto` does not take what is so near to float32; None is equal."""
    if psnr is None or psnr >= MIN_PSNR:
        return None
    return (
        f"it is {psnr:.1f} dB from float32, expected {MIN_PSNR:.0f} dB or more: build it in "
        "another precision, or name it to use it all the same"
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
    """What a look at the sizes of the files shows; their hashes are compared when they open."""
    for file in built.files:
        path = root / file.path
        if not path.is_file() or path.stat().st_size != file.size:
            return f"{path} is missing or not what was built: run `sdrt build` again"
    return None
