"""`sdrt inspect`: the contents of a bundle, for people and for programs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.table import Table

from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Manifest
from sdrt.command_line.console import PlainConsole
from sdrt.command_line.printable import printable
from sdrt.families.family import Family
from sdrt_engines import TensorSpec
from sdrt_engines.tensor import shape_text


def inspect(path: str, *, as_json: bool) -> None:
    """Prints the manifest of the bundle at `path`."""
    manifest = Bundle.open(path).manifest
    if as_json:
        sys.stdout.write(printable(manifest.to_json()) + "\n")
        return
    console = PlainConsole()
    for table in (_facts, _components, _tensors):
        console.print(table(manifest))
        console.print()


def _facts(manifest: Manifest) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("family", _family(manifest.family))
    table.add_row("source", manifest.source)
    table.add_row("created", manifest.created)
    table.add_row("made with", _listed(manifest.tools))
    table.add_row("defaults", _listed(manifest.defaults))
    for each in manifest.merged:
        scale = f", scale {each.scale:g}" if each.kind == "lora" else ""
        table.add_row(each.kind, f"{each.name}{scale}, sha256 {each.sha256[:12]}…")
    return table


def _family(family: Family) -> str:
    """Its name, and what its denoiser takes that others do not."""
    facts = family.denoiser
    inputs = [*(["mask"] if facts.extra_channels == "mask" else []), *facts.time_ids]
    if facts.guidance == "embedded":
        inputs.append("guidance_scale")
    return f"{family.name} (takes {', '.join(inputs)})" if inputs else family.name


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "none"


def _components(manifest: Manifest) -> Table:
    table = _table("component", "weights")
    for heading in ("size", "error against torch", "PSNR"):
        table.add_column(heading, justify="right")
    for component in manifest.components:
        megabytes = sum(file.size for file in component.files) / 1e6
        parity = component.parity
        figures = (f"{parity.max_abs:.1e}", f"{parity.psnr:.0f} dB") if parity else ("unknown",) * 2
        table.add_row(component.name, component.precision, f"{megabytes:.1f} MB", *figures)
    return table


def _tensors(manifest: Manifest) -> Table:
    table = _table("component", "", "tensor", "dtype", "shape")
    for component in manifest.components:
        signature = component.signature
        for way, specs in (("in", signature.inputs), ("out", signature.outputs)):
            for row in _rows(specs):
                table.add_row(component.name, way, *row)
    return table


def _rows(specs: Sequence[TensorSpec]) -> Iterator[tuple[str, str, str]]:
    """Name, dtype and shape of each tensor; numbered ones share a row."""
    for stem, same in groupby(specs, key=lambda spec: re.sub(r"\.\d+$", "", spec.name)):
        first, *others = same
        shapes = list(dict.fromkeys(_short(spec) for spec in (first, *others)))
        name = f"{stem}.0…{len(others)}" if others else first.name
        yield name, str(first.dtype), shapes[0] if len(shapes) == 1 else f"{len(shapes)} shapes"


def _short(spec: TensorSpec) -> str:
    """The shape, with letters for its open sizes: batch, tokens, height, width."""
    words = re.compile(r"batch|sequence|height|width")
    letters = {"batch": "B", "sequence": "L", "height": "h", "width": "w"}
    return words.sub(lambda word: letters[word[0]], shape_text(spec.shape))


def _table(*headings: str) -> Table:
    return Table(*headings, box=None, pad_edge=False, padding=(0, 1, 0, 0))
