"""The tables of the page on speed: presets, forecasts, guidance intervals and int8."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from docs_reference import code, table
from docs_rows import Row, newest, where
from sdrt.denoising.forecast_plan import STRONG
from sdrt.denoising.speed_presets import BARS, STRONGEST, forecast_of

RATIO = "of the rival's"  # calls
SHARES = (0.3, 0.4, 0.5, 0.7)  # of the calls, as in the bench
NEARNESS = ("PSNR, median", "5th percentile", "images judged worse", "judged otherwise")


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
    rows = [row for row in newest("int8").values() if "scheduler" in row["notes"]]
    lines = [
        (
            code(row["notes"]["target"]),
            code(row["notes"]["scheduler"]),
            f"{row['notes']['guidance']:g}",
            *_nearness(row),
        )
        for row in rows
    ]
    notes = rows[-1]["notes"]
    denoiser = (
        f"{notes['layers in int8']} of {notes['layers']} layers in int8, "
        f"{1 - notes['work in float']:.0%} of their multiplications; {notes['MB']:.1f} MB on disk, "
        f"{notes['MB as exported']:.1f} MB in float16."
    ).replace("%", " %")
    headings = ("target", "sampler", "guidance", *NEARNESS)
    packages = "onnxruntime", "openvino"
    return f"{where(rows, *packages)}\n\n{_images(rows)} {denoiser}\n\n{table(headings, lines)}"


def presets_on_targets() -> str:
    """A line for each preset, target, sampler and guidance; presets that changed are left out."""
    rows = [row for row in newest("speed_modes").values() if _is_a_preset(row["notes"])]
    lines = [
        (
            code(notes["speed"]),
            code(notes["target"]),
            code(notes["scheduler"]),
            f"{notes['guidance']:g}",
            f"{round(notes['calls'], 1):g} of {notes['all calls']}",
            *_nearness(row),
        )
        for row in rows
        for notes in [row["notes"]]
    ]
    headings = ("preset", "target", "sampler", "guidance", "calls", *NEARNESS)
    packages = "onnxruntime", "openvino"
    return f"{where(rows, *packages)}\n\n{_images(rows)}\n\n{table(headings, lines)}"


def _nearness(row: Row) -> tuple[object, ...]:
    """The cells of a row for `NEARNESS`."""
    notes = row["notes"]
    return (
        f"{row['median']:.1f} dB",
        f"{notes['5th percentile']:.1f} dB",
        notes["images judged worse"],
        notes["images judged otherwise"],
    )


def _is_a_preset(notes: Mapping[str, Any]) -> bool:
    meant = forecast_of(notes["speed"], notes["scheduler"], notes["all calls"], notes["guidance"])
    return bool(notes["forecast"] == meant)


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
    "presets on targets": presets_on_targets,
    "forecasts": forecasts,
    "guidance intervals": guidance_intervals,
    "images in int8": int8_images,
}
