"""`sdrt verify`: compares a bundle's networks on a target with the CPU."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from sdrt.bundle.folder import Bundle
from sdrt.bundle.verified_files import forget_files
from sdrt.command_line.console import PlainConsole
from sdrt.errors import SdrtError, UsageError
from sdrt.targets.auto import warn_if_slower
from sdrt.targets.resolving import resolve
from sdrt.targets.runnable import runnable
from sdrt.verification.verdict import Verdict, verify_component
from sdrt_engines import Target, backend_of


def verify(path: str, target: str, num_threads: int | None, *, as_json: bool) -> None:
    """Prints a verdict on each network.

    Raises `SdrtError` if one fails, or differs too much from the CPU; `UsageError` if `auto` is the
    CPU itself.
    """
    bundle = Bundle.open(path)
    resolved = resolve(bundle, target, num_threads=num_threads).target
    if target == "auto" and _is_reference(bundle, resolved):
        raise UsageError(
            "nothing to compare: auto takes the CPU here, which is the reference: name a --target "
            "(sdrt doctor lists them)"
        )
    resolve(bundle, "cpu")  # the reference
    forget_files(bundle.root)
    warn_if_slower(bundle, resolved)
    verdicts = [
        verify_component(bundle, component.name, resolved, num_threads=num_threads)
        for component in bundle.manifest.components
    ]
    if as_json:
        report = {
            "target": str(resolved),
            "components": [_json_from_verdict(verdict) for verdict in verdicts],
        }
        sys.stdout.write(json.dumps(report, indent=2, allow_nan=False) + "\n")
    else:
        console = PlainConsole()
        console.print(_table(resolved, verdicts))
    failed = [verdict.component for verdict in verdicts if not verdict.passed]
    if failed:
        raise SdrtError(
            f"target {resolved} differs too much from the CPU in {', '.join(failed)}: use "
            "another target for this bundle"
        )


def _is_reference(bundle: Bundle, target: Target) -> bool:
    """True if `target` runs the same networks as the reference: not prepared ones."""
    return backend_of(target).runs == "prepared graph" and not any(
        runnable(bundle.root, component, target).prepared
        for component in bundle.manifest.components
    )


def _json_from_verdict(verdict: Verdict) -> dict[str, Any]:
    """The verdict as JSON; infinite and unknown figures are null."""
    values = {**asdict(verdict), "passed": verdict.passed}
    infinite = {name for name, value in values.items() if isinstance(value, float)}
    return {
        name: None if name in infinite and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _table(target: Target, verdicts: Sequence[Verdict]) -> Table:
    table = Table(
        title=f"{target} compared with cpu",
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2),
    )
    table.add_column("component")
    for heading in ("greatest error", "PSNR", "required", "NaN, inf"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for verdict in verdicts:
        ran = verdict.error is None and not verdict.num_non_finite
        table.add_row(
            verdict.component,
            f"{verdict.max_abs:.1e}" if ran else "",
            _decibels(verdict.psnr) if ran else "",
            _decibels(verdict.min_psnr),
            str(verdict.num_non_finite),
            verdict.error or ("passed" if verdict.passed else "too different"),
        )
    return table


def _decibels(psnr: float) -> str:
    return "equal" if psnr == math.inf else f"{psnr:.0f} dB"
