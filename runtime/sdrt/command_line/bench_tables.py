"""The figures of `sdrt bench` as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from sdrt.benchmarking.figures import Figure, quantity
from sdrt.benchmarking.rows import Context, versions_of

READING = "p50, p90, p99: this percentage of the samples is at least as good"


def facts_table(context: Context, figures: Sequence[Figure]) -> Table:
    """The bundle, the target and a scenario's verdict, with any change of target."""
    table = Table.grid(padding=(0, 2))
    table.add_row("bundle", f"{context.bundle['name']}, {context.bundle['digest'][:12]}")
    for target in dict.fromkeys(figure.target for figure in figures):
        table.add_row("target", f"{target}; {_listed(versions_of(target))}")
    table.add_row("image", _image(context.settings))
    table.add_row("machine", _machine(context.machine))
    for verdict in {figure.notes["verdict"] for figure in figures if "verdict" in figure.notes}:
        table.add_row("verdict", verdict)
    return table


def figures_table(figures: Sequence[Figure]) -> Table:
    """A line per figure; there is a column for p99 if one has enough samples."""
    with_p99 = any(figure.values and figure.summary.p99 is not None for figure in figures)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for heading in ("p50", "p90", *(["p99"] if with_p99 else []), "samples"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for figure in figures:
        table.add_row(
            figure.name.replace("_", " "), *_cells(figure, with_p99), figure.refusal or ""
        )
    return table


def rival_text(figure: Figure) -> str:
    """The fewest steps that are as near, and the share of their calls that a preset needs."""
    return (
        "fewer steps: {steps} are as near, with {calls} calls, of which the preset needs "
        "{relative calls}".format(**figure.notes)
    )


def plot_title(context: Context, figures: Sequence[Figure]) -> str:
    """The same facts in two lines."""
    target = figures[-1].target
    return (
        f"{context.bundle['name']} on {target}: {_image(context.settings)}\n"
        f"{_machine(context.machine)}; {_listed(versions_of(target))}"
    )


def _cells(figure: Figure, with_p99: bool) -> list[str]:
    if not figure.values:
        return ["", "", *([""] if with_p99 else []), "0"]
    summary = figure.summary
    percentiles = [summary.p50, summary.p90, *([summary.p99] if with_p99 else [])]
    texts = ["" if value is None else quantity(value, figure.unit) for value in percentiles]
    return [*texts, str(summary.num_samples)]


def _image(settings: Mapping[str, Any]) -> str:
    threads = settings["num_threads"]
    return (
        f"{settings['width']}×{settings['height']}, {settings['num_inference_steps']} steps, "
        f"guidance scale {settings['guidance_scale']:g}, {settings['scheduler']}"
        f"{f', {threads} threads' if threads else ''}"
    )


def _machine(machine: Mapping[str, Any]) -> str:
    gpus = "".join(f", {gpu}" for gpu in machine.get("gpus", ()))
    return (
        f"{machine['processor']}, {machine['cores']} cores{gpus}; {machine['system']}, "
        f"Python {machine['python']}"
    )


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
