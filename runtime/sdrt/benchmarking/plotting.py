"""Plots figures with matplotlib, which `sdrt[plot]` installs. Opens no window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sdrt.benchmarking.cold_start import EVENTS
from sdrt.benchmarking.figures import Figure, quantity
from sdrt.errors import SdrtError
from sdrt.files.atomic import appearing_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _ORANGE, _GREY = "#2f6fad", "#d9822b", "#8a8f98"  # distinct for colour-blind readers too
_PANEL = 5.25, 3.5  # inches
_DPI = 144

ByName: TypeAlias = Mapping[str, Figure]


def require_matplotlib() -> None:
    """Raises `SdrtError` with the command that installs it."""
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError:
        raise SdrtError(
            "--plot needs matplotlib, which is not installed: pip install 'sdrt[plot]'"
        ) from None


def save_plot(path: Path, title: str, figures: Sequence[Figure]) -> None:
    """Plots the figures that can be plotted into a PNG, one panel per kind."""
    from matplotlib.figure import Figure as Canvas

    by_name = {figure.name: figure for figure in figures}
    panels = [draw for applies, draw in _PANELS if applies(by_name)]
    num_columns = min(2, len(panels))
    num_rows = ceil(len(panels) / num_columns)
    size = _PANEL[0] * num_columns, _PANEL[1] * num_rows
    canvas = Canvas(figsize=size, dpi=_DPI, layout="constrained")
    canvas.suptitle(title, fontsize=10, x=0.01, ha="left")
    for number, draw in enumerate(panels, start=1):
        axes = canvas.add_subplot(num_rows, num_columns, number)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes, by_name)
    with appearing_file(path) as draft:
        canvas.savefig(draft, format="png")


def _draw_stages(axes: Axes, figures: ByName) -> None:
    """The median of each stage as a bar, longest on top, with a line between the quartiles."""
    stages = sorted(_stages(figures), key=lambda stage: stage.summary.p50)
    names = [stage.name.replace("_", " ") for stage in stages]
    medians = [stage.summary.p50 for stage in stages]
    bars = axes.barh(names, medians, color=_BLUE, xerr=_spread(stages), ecolor=_GREY)
    labels = [f" {quantity(stage.summary.p50, 's')}" for stage in stages]
    axes.bar_label(bars, labels, padding=3)
    axes.margins(x=0.25)
    axes.set(
        title=f"One image: {quantity(figures['image'].summary.p50, 's')}",
        xlabel="seconds (lines: quartiles)",
    )


def _draw_steps(axes: Axes, figures: ByName) -> None:
    steps = figures["denoising step"]
    milliseconds = [1000 * value for value in steps.values]
    axes.hist(milliseconds, bins=min(40, max(10, len(milliseconds) // 5)), color=_BLUE)
    _draw_percentiles(axes, steps, scale=1000)
    axes.legend(frameon=False)
    axes.set(title="Denoising steps", xlabel="milliseconds", ylabel="steps", xlim=(0, None))


def _draw_batches(axes: Axes, figures: ByName) -> None:
    """The medians, with a line between the quartiles."""
    batches = [figure for figure in figures.values() if _is_batch(figure)]
    for position, figure in enumerate(batches):
        if figure.refusal:
            axes.text(position, 0, "refused", rotation=90, ha="center", va="bottom")
            continue
        rate = figure.summary.p50
        bar = axes.bar(position, rate, 0.6, color=_BLUE, yerr=_spread([figure]), ecolor=_GREY)
        axes.bar_label(bar, [f"{rate:.3g}"], padding=3)
    axes.set_xticks(range(len(batches)), [str(figure.notes["batch"]) for figure in batches])
    axes.margins(y=0.15)
    axes.set(
        title="Batches",
        xlim=(-0.6, len(batches) - 0.4),
        xlabel="images generated at once (lines: quartiles)",
        ylabel="images per second",
    )


def _draw_cold_start(axes: Axes, figures: ByName) -> None:
    """From the start of the process to each event, one after another."""
    before = 0.0
    for position, (colour, name) in enumerate(
        zip((_GREY, _ORANGE, _BLUE), EVENTS.values(), strict=True)
    ):
        end = figures[name].summary.p50
        axes.barh(position, end - before, left=before, color=colour)
        axes.text(end, position, f" {quantity(end, 's')}", va="center")
        before = end
    axes.set_yticks(range(len(EVENTS)), [f"to {event}" for event in EVENTS])
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set(title="Cold start", xlabel="seconds from the start of the process")


def _draw_latencies(axes: Axes, figures: ByName) -> None:
    """The share of queries served within a time."""
    latency = figures["latency"]
    ordered = sorted(latency.values)
    shares = [100 * (number + 1) / len(ordered) for number in range(len(ordered))]
    axes.step([0.0, *ordered], [0.0, *shares], where="post", color=_BLUE)
    _draw_percentiles(axes, latency)
    if bound := latency.notes.get("latency_bound"):
        axes.axvline(bound, color=_GREY, linewidth=3, label=f"bound {bound:g} s")
    axes.legend(edgecolor="none")  # placed where it covers least
    axes.set(
        title=f"{latency.notes['scenario']}: {latency.notes['verdict'].partition(':')[0]}",
        xlabel="seconds from the arrival of a query",
        ylabel="queries served (%)",
        xlim=(0, None),
        ylim=(0, 102),
    )


def _draw_percentiles(axes: Axes, figure: Figure, scale: float = 1.0) -> None:
    summary = figure.summary
    percentiles = {"p50": summary.p50, "p90": summary.p90, "p99": summary.p99}
    for (name, value), style in zip(percentiles.items(), ("-", "--", ":"), strict=True):
        if value is not None:
            label = f"{name} {quantity(value, figure.unit)}"
            axes.axvline(scale * value, color=_ORANGE, linestyle=style, label=label)


def _stages(figures: ByName) -> list[Figure]:
    """The stages that are long enough to be visible as bars."""
    least = figures["image"].summary.p50 / 1000
    stages = [figure for figure in figures.values() if figure.notes.get("part_of") == "image"]
    return [stage for stage in stages if stage.summary.p50 > least]


def _is_batch(figure: Figure) -> bool:
    return figure.unit == "images/s" and "batch" in figure.notes


def _spread(figures: Sequence[Figure]) -> list[list[float]]:
    """The distances of the quartiles below and above the medians."""
    summaries = [figure.summary for figure in figures]
    below = [summary.p50 - summary.quartiles[0] for summary in summaries]
    return [below, [summary.quartiles[1] - summary.p50 for summary in summaries]]


_PANELS: Sequence[tuple[Callable[[ByName], bool], Callable[[Axes, ByName], None]]] = (
    (lambda figures: "image" in figures, _draw_stages),
    (lambda figures: "denoising step" in figures, _draw_steps),
    (lambda figures: any(map(_is_batch, figures.values())), _draw_batches),
    (lambda figures: all(name in figures for name in EVENTS.values()), _draw_cold_start),
    (lambda figures: "latency" in figures, _draw_latencies),
)
