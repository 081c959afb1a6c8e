"""sdrt's targets and the peers of equal precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from peers.contestants import CONTESTANTS, FURTHER, LONG, PRECISIONS, SHORT, Question
from peers.rows import Row, answered, figure, is_ours, step_of, table

HEADINGS = (
    "",
    "starting",
    "starting, files not in the disk cache",
    "one step",
    "peak memory",
    "VAE decoder, in steps",
)


def relative_table(rows: Sequence[Row]) -> str:
    asked = [row for row in answered(rows) if row["question"]["name"] == SHORT.name]
    return (
        "Medians of the rounds, each figure relative to the peer that has the least. Starting is "
        "the time from the start of the process to the end of its first step, less a step.\n\n"
        f"{table(HEADINGS, relative_figures(asked))}"
    )


def relative_figures(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The lines for HEADINGS, one for each of our targets. From rows of one question."""
    targets = [each.name for each in CONTESTANTS if each.ours]
    return [
        (
            name,
            relative(rows, name, starting, files="warm"),
            relative(rows, name, starting, files="cold"),
            relative(rows, name, step_of),
            relative(rows, name, lambda row: float(row["peak_mib"])),
            f"{median(row['stages']['vae_decoder'] / step_of(row) for row in own):.2f}",
        )
        for name in targets
        if (own := [row for row in rows if row["contestant"] == name])
    ]


def relative(
    rows: Sequence[Row], name: str, of: Callable[[Row], float], files: str | None = None
) -> str:
    """Our figure divided by the least of the peers of the same round and precision."""
    ratios = []
    for own in rows:
        if own["contestant"] != name or files not in (None, own["files"]):
            continue
        peers = [of(row) for row in rows if is_peer(row, own)]
        ratios += [of(own) / min(peers)] if peers else []
    return f"{median(ratios):.2f}" if ratios else ""


def is_peer(row: Row, own: Row) -> bool:
    """True for another project's row of the same round and precision."""
    return (
        row["round"] == own["round"]
        and not is_ours(row["contestant"])
        and PRECISIONS[row["contestant"]] == PRECISIONS[own["contestant"]]
    )


def starting(row: Row) -> float:
    """Seconds from the start of the process to the end of its first step, less a later step."""
    return float(row["first_step"]) - step_of(row)


def losses(rows: Sequence[Row]) -> str:
    """The contestants that are faster than our fastest target of equal precision."""
    lines = []
    for question in (SHORT, LONG, *FURTHER):
        images = images_of(rows, question)
        for precision in ("fp32", "bf16", "int8"):
            equal = {name: images[name] for name in images if PRECISIONS[name] == precision}
            if any(map(is_ours, equal)):
                lines.append(f"- {question.name}, {precision}: {comparison(equal)}.")
    return "## Who is faster than sdrt, at equal precision\n\n" + "\n".join(lines)


def images_of(rows: Sequence[Row], question: Question) -> dict[str, float]:
    """The seconds of an image by contestant, for those that answered the question."""
    asked = answered([row for row in rows if row["question"]["name"] == question.name])
    names = {row["contestant"] for row in asked}
    return {name: figure(answered(asked, name), lambda row: row["image"]) for name in names}


def comparison(images: Mapping[str, float]) -> str:
    ours = list(filter(is_ours, images))
    best = min(ours, key=lambda name: images[name])
    faster = sorted(
        (name for name in images if images[name] < images[best]), key=lambda name: images[name]
    )
    if faster:
        texts = [f"{name} ({images[name] / images[best]:.2f} of its time)" for name in faster]
        return f"faster than {best}: {', '.join(texts)}"
    rivals = [name for name in images if name not in ours]
    if not rivals:
        return f"no other project was measured next to {best}"
    second = min(rivals, key=lambda name: images[name])
    return f"{best} takes {images[best] / images[second]:.2f} of the time of the next, {second}"
