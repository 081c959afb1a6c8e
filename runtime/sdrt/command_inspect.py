"""``sdrt inspect``: what a bundle holds, for people and for programs."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from sdrt.bundle import Bundle
from sdrt.manifest import Component, Manifest
from sdrt_engines import TensorSpec


def inspect(path: str, *, as_json: bool) -> None:
    """Prints the manifest of the bundle at ``path``."""
    manifest = Bundle.open(path).manifest
    if as_json:
        sys.stdout.write(manifest.to_json() + "\n")
        return
    console = Console(highlight=False)
    console.print(_facts(manifest))
    console.print(_components(manifest.components))
    console.print(_tensors(manifest.components))


def _facts(manifest: Manifest) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("family", manifest.family)
    table.add_row("source", manifest.source)
    table.add_row(
        "made with", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())
    )
    table.add_row(
        "defaults", ", ".join(f"{name} {value}" for name, value in manifest.defaults.items())
    )
    return table


def _components(components: tuple[Component, ...]) -> Table:
    table = Table(
        "component", "precision", "size", "max abs error", "PSNR", title="Components, beside torch"
    )
    for component in components:
        megabytes = sum(file.size for file in component.files) / 1e6
        parity = component.parity
        figures = (
            (f"{parity.max_abs:.1e}", f"{parity.psnr:.0f} dB") if parity else ("unknown", "unknown")
        )
        table.add_row(component.name, component.precision, f"{megabytes:.1f} MB", *figures)
    return table


def _tensors(components: tuple[Component, ...]) -> Table:
    table = Table("component", "tensor", "dtype", "shape", title="Signatures")
    for component in components:
        for arrow, specs in (("→", component.signature.inputs), ("←", component.signature.outputs)):
            for spec in specs:
                table.add_row(component.name, f"{arrow} {spec.name}", str(spec.dtype), _shape(spec))
        table.add_section()
    return table


def _shape(spec: TensorSpec) -> str:
    return " × ".join(map(str, spec.shape)) or "scalar"
