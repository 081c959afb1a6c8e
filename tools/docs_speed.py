"""The tables of the page on speed: what forecasts, guidance intervals and int8 cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from docs_reference import code, table
from docs_rows import Row, newest, where

RATIO = "of the rival's"  # calls
SHARES = ("40 %", "50 %", "70 %")  # of the calls, as in the bench


def forecasts() -> str:
    """A line for each sampler and guidance."""
    rows = [row for row in newest("forecast").values() if "forecast" in row["notes"]]
    lines = []
    for (scheduler, steps, guidance), group in _groups(rows):
        cells = [_forecast(row) for row in sorted(group, key=lambda row: row["notes"]["forecast"])]
        calls = group[0]["notes"]["all calls"]
        lines.append((code(scheduler), f"{guidance:g}", f"{steps}, {calls} calls", *cells))
    headings = ("sampler", "guidance", "steps", *(f"{share} of the calls" for share in SHARES))
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
    return f"{rows[0]['num_runs']} images of the demo model for each figure."


BLOCKS: Mapping[str, Callable[[], str]] = {
    "forecasts": forecasts,
    "guidance intervals": guidance_intervals,
    "images in int8": int8_images,
}
