"""The tables of the page on speed: presets, forecasts, guidance intervals and int8."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from docs_reference import code, table
from docs_rows import Row, newest, where
from sdrt.denoising.forecast_plan import STRONG
from sdrt.denoising.speed_presets import BARS, STRONGEST, forecast_of

RATIO = "of the rival's"  # calls
SHARES = (0.4, 0.5, 0.7)  # of the calls, as in the bench


def presets() -> str:
    """A line for each sampler, number of calls and guidance with a preset."""
    rows = _forecast_rows()
    lines = []
    for (scheduler, steps, guidance), group in _groups(rows):
        calls, by_budget = group[0]["notes"]["all calls"], _by_budget(group)
        meant = [forecast_of(speed, scheduler, calls, guidance) for speed in BARS]
        if any(meant):
            cells = [f"`--forecast {n}`: {_forecast(by_budget[n])}" if n else "" for n in meant]
            up_to = STRONG if guidance <= STRONG else STRONGEST
            lines.append((code(scheduler), f"up to {up_to:g}", steps, *cells))
    headings = ("sampler", "guidance", "steps", *map(code, BARS))
    return f"{where(rows, 'onnxruntime')}\n\n{table(headings, lines)}"


def forecasts() -> str:
    """A line for each sampler and guidance."""
    rows = _forecast_rows()
    lines = []
    for (scheduler, steps, guidance), group in _groups(rows):
        calls, by_budget = group[0]["notes"]["all calls"], _by_budget(group)
        budgets = (round(share * calls) for share in SHARES)
        cells = [_forecast(by_budget[n]) if n in by_budget else "" for n in budgets]
        lines.append((code(scheduler), f"{guidance:g}", f"{steps}, {calls} calls", *cells))
    columns = (f"{share:.0%} of the calls".replace("%", " %") for share in SHARES)
    headings = ("sampler", "guidance", "steps", *columns)
    return f"{where(rows, 'onnxruntime')}\n\n{_images(rows)}\n\n{table(headings, lines)}"


def guidance_intervals() -> str:
    rows = [row for row in newest("forecast").values() if "rows" in row["notes"]]
    lines = [
        (
            code(row["notes"]["scheduler"]),
            f"{row['notes']['guidance']:g}",
            "{:g}:{:g}".format(*row["notes"]["guidance interval"]),
            f"{row['notes']['rows']:.2f}",
            f"{row['median']:.1f} dB",
            f"{row['notes']['5th percentile']:.1f} dB",
            row["notes"]["images judged otherwise"],
        )
        for row in rows
    ]
    headings = (
        *("sampler", "guidance", "interval", "relative work"),
        *("PSNR, median", "5th percentile", "images with other attributes"),
    )
    return f"{where(rows, 'onnxruntime')}\n\n{_images(rows)}\n\n{table(headings, lines)}"


def int8_images() -> str:
    rows = [row for row in newest("int8").values() if row["unit"] == "dB"]
    lines = [
        (
            code(row["notes"]["target"]),
            f"{row['notes']['guidance']:g}",
            f"{row['median']:.1f} dB",
            f"{row['notes']['5th percentile']:.1f} dB",
            row["notes"]["images judged otherwise"],
            f"{row['notes']['MB']:.1f} MB, float16 {row['notes']['MB as exported']:.1f} MB",
        )
        for row in rows
    ]
    headings = (
        *("target", "guidance", "PSNR, median", "5th percentile"),
        *("images with other attributes", "denoiser on disk"),
    )
    packages = "onnxruntime", "openvino"
    return f"{where(rows, *packages)}\n\n{_images(rows)}\n\n{table(headings, lines)}"


def _forecast_rows() -> list[Row]:
    return [row for row in newest("forecast").values() if "forecast" in row["notes"]]


def _by_budget(rows: Sequence[Row]) -> Mapping[int, Row]:
    return {row["notes"]["forecast"]: row for row in rows}


def _groups(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, int, float], list[Row]]]:
    groups: dict[tuple[str, int, float], list[Row]] = {}
    for row in rows:
        notes = row["notes"]
        groups.setdefault((notes["scheduler"], notes["steps"], notes["guidance"]), []).append(row)
    yield from sorted(groups.items())


def _forecast(row: Row) -> str:
    """`10: 54.1 (50.3), 0.71`"""
    notes = row["notes"]
    changed = notes["images judged otherwise"]
    return (
        f"{round(notes['calls'], 1):g}: {row['median']:.0f} ({notes['5th percentile']:.0f}) dB, "
        f"{notes[RATIO]:.2f}{f', {changed} changed' if changed else ''}"
    )


def _images(rows: Sequence[Row]) -> str:
    least, most = (choose(row["num_runs"] for row in rows) for choose in (min, max))
    count = f"{least}" if least == most else f"{least} to {most}"
    return f"{count} images of the demo model for each figure."


BLOCKS: Mapping[str, Callable[[], str]] = {
    "presets": presets,
    "forecasts": forecasts,
    "guidance intervals": guidance_intervals,
    "images in int8": int8_images,
}
