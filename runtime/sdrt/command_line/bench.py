"""`sdrt bench`: the speed of a bundle on a target, as a table, JSON lines and a plot."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console

from sdrt.benchmarking.comparison import Comparison
from sdrt.benchmarking.figures import Figure
from sdrt.benchmarking.loadgen import Offline, Scenario, Server, SingleStream, scenario_figures
from sdrt.benchmarking.overview import Overview
from sdrt.benchmarking.rows import Context, append_row, context_of
from sdrt.benchmarking.scenarios import Extent
from sdrt.benchmarking.workload import SETTINGS, Report, Workload, unreported
from sdrt.command_line.bench_options import NO_SCENARIO, scenario_options
from sdrt.command_line.bench_tables import (
    READING,
    facts_table,
    figures_table,
    plot_title,
    rival_text,
)
from sdrt.command_line.console import PlainConsole
from sdrt.command_line.output_files import require_writable
from sdrt.errors import SdrtError, UsageError
from sdrt.request import Request

Measure: TypeAlias = Callable[[Workload, Report], Iterator[Figure]]
Plot: TypeAlias = Callable[[str, Sequence[Figure]], None]


def bench(options: argparse.Namespace) -> None:
    """Measures and reports. Checks as much as possible before it runs anything."""
    values = scenario_options(options)
    measure = _measure(options, values)
    plot = _plot(options)
    if options.json is not None:
        require_writable(options.json, "--json", "a file")
    workload, context = _prepared(options, max(values.get("batches", [values.get("batch", 1)])))
    figures: list[Figure] = []
    with _progress() as report:
        for figure in measure(workload, report):
            figures.append(figure)
            if options.json is not None:
                append_row(options.json, context.row(figure))
    console = PlainConsole()
    for part in (facts_table(context, figures), "", figures_table(figures), READING):
        console.print(part)
    for figure in figures:
        if "relative calls" in figure.notes:
            console.print(rival_text(figure))
    plot(plot_title(context, figures), figures)


def _measure(options: argparse.Namespace, values: dict[str, Any]) -> Measure:
    if options.compare is not None:
        return Comparison(options.speed or "exact", options.compare, **values).figures
    if options.scenario == NO_SCENARIO:
        return Overview(**values).figures
    return partial(scenario_figures, _scenario(options, values))


def _scenario(options: argparse.Namespace, values: dict[str, Any]) -> Scenario:
    extent = Extent(values["queries"], values["duration"])
    if options.scenario == "server":
        return Server(extent, values["rate"], values["latency_bound"], options.seed)
    if options.scenario == "offline":
        return Offline(extent, values["batch"])
    return SingleStream(extent)


def _prepared(options: argparse.Namespace, largest_batch: int) -> tuple[Workload, Context]:
    """The workload, after checking its request, and the facts that all of its figures share."""
    request = Request(**{name: getattr(options, name) for name in SETTINGS})
    workload = Workload(
        options.bundle, options.target, request, options.num_threads, options.warmup
    )
    with workload.open() as pipeline:
        pipeline.generation(workload.request_of(0, largest_batch))
        workload = replace(workload, request=pipeline.generation(request).job.request)
        return workload, context_of(workload, pipeline.bundle)


def _plot(options: argparse.Namespace) -> Plot:
    """The function that plots, if requested. Raises an error if it cannot."""
    path: Path | None = options.plot
    if path is None:
        return lambda title, figures: None
    if options.compare is not None:
        raise UsageError("--plot: --compare has no plot: leave --plot out")
    if options.scenario == "offline":
        raise UsageError("--plot: --scenario offline gives one number: leave --plot out")
    if path.suffix.lower() != ".png":
        raise SdrtError(f"{path}: plots are PNGs: name it *.png")
    require_writable(path, "--plot", "a PNG")
    from sdrt.benchmarking.plotting import require_matplotlib, save_plot

    require_matplotlib()
    return partial(save_plot, path)


@contextmanager
def _progress() -> Iterator[Report]:
    """Takes descriptions of the current work, and shows them on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield unreported
        return
    with console.status("opening") as status:
        yield status.update
