"""The tables of full-size models: export, single files, prompts, memory, tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from docs_reference import table
from docs_rows import (
    NETWORKS,
    all_rows,
    figure,
    newest,
    number,
    of_the_last_run,
    where,
)

EXPORTED = {**NETWORKS, "whole export": "`sdrt export`, everything"}


def export_at_full_size() -> str:
    models = dict.fromkeys(row["notes"].get("model") for row in all_rows("export_full_size"))
    models.pop(None, None)  # older rows
    lines = [line for model in models for line in _export_of(model)]
    headings = (
        "model",
        "network",
        "time",
        "peak memory",
        "torch's process",
        "to trace, fold and write",
        "size on disk",
        "PSNR against torch",
    )
    return f"{where(all_rows('export_full_size'))}\n\n{table(headings, lines)}"


def _export_of(model: str) -> Iterator[tuple[str, ...]]:
    rows = newest("export_full_size", model=model)
    for name, title in EXPORTED.items():
        if f"{name}, time" not in rows:
            continue
        time, memory = rows[f"{name}, time"], rows[f"{name}, peak memory"]
        child = rows[f"{name}, torch's own process, peak memory"]
        writing = [
            row["median"]
            for each, row in rows.items()
            if each.startswith(name) and "writing" in each
        ]
        yield (
            model,
            title,
            figure(time),
            figure(memory),
            figure(child) if child["median"] > 1 else "",  # else it has none
            "" if name == "whole export" else f"{number(max(writing))} GiB",
            f"{time['notes']['MB written']:,} MB",
            time["notes"]["PSNR"],
        )


def single_files() -> str:
    models = dict.fromkeys(row["notes"]["model"] for row in all_rows("single_file"))
    lines = []
    for model in models:
        rows = newest("single_file", model=model)
        for name in ("folder", "single file"):
            time, memory = rows[f"{name}, time"], rows[f"{name}, peak memory"]
            lines.append((model, name, figure(time), figure(memory), time["notes"]["networks"]))
    headings = ("model", "exported from", "time", "peak memory", "weights and graphs")
    return f"{where(all_rows('single_file'))}\n\n{table(headings, lines)}"


def prompt_encoding() -> str:
    rows = newest("prompt_encoding")
    prompts = [name for name in rows if f"{name}, from the cache" in rows]
    lines = []
    for name in prompts:
        encoded, cached = rows[name], rows[f"{name}, from the cache"]
        ratio = f"{encoded['notes']['ratio to plain']:.2f}"
        lines.append((name, figure(encoded), ratio, figure(cached)))
    headings = ("prompt", "time", "relative to the plain prompt", "time, from the cache")
    grown, without = (
        figure(rows[f"memory after many prompts: {name}"])
        for name in ("the cache", "without the cache")
    )
    notes = rows["memory after many prompts: the cache"]["notes"]
    memory = (
        f"After {notes['prompts']:,} different prompts, memory has grown by {grown} (without the "
        f"cache: {without}); the cache is limited to {number(notes['bound, MiB'])} MiB."
    )
    return f"{where(rows.values(), 'onnxruntime')}\n\n{table(headings, lines)}\n\n{memory}"


def tiled_decode() -> str:
    rows = newest("tiled_decode")
    lines = []
    for row in rows.values():
        notes = row["notes"]
        size, tile = notes["size"], notes["tile"]
        lines.append(
            (
                notes["target"],
                f"{size}×{size}",
                f"tiles of {tile}×{tile}" if tile else "whole",
                "does not fit" if row["median"] is None else figure(row),
                f"{number(notes['peak'])} GiB" if "peak" in notes else "",
            )
        )
    headings = ("target", "image", "decoded", "time", "peak memory")
    return f"{where(rows.values(), 'onnxruntime')}\n\n{table(headings, lines)}"


def memory() -> str:
    """Every case of the newest run, with the ratio of forecast and peak or the refusal."""
    rows = {row["name"]: row for row in of_the_last_run("memory")}
    lines = [
        (
            row["notes"]["target"],
            f"{row['notes']['size']}×{row['notes']['size']}",
            row["notes"]["batch"],
            f"{row['notes']['rows']} of {row['notes']['num_rows']}",
            f"{number(row['notes']['forecast'])} GiB",
            "refused" if row["median"] is None else figure(row),
            "" if row["median"] is None else f"{row['notes']['forecast'] / row['median']:.2f}",
        )
        for row in rows.values()
    ]
    headings = ("target", "size", "images", "rows per run", "forecast", "peak", "forecast / peak")
    return f"{where(rows.values(), 'onnxruntime', 'openvino')}\n\n{table(headings, lines)}"


def loading_memory() -> str:
    rows = newest("loading_memory")
    lines = [
        (
            *name.split(", "),
            f"{row['median']:.2f}",
            f"{row['notes']['after']:.2f}",
            f"{row['notes']['in convolutions']:.0%}",
        )
        for name, row in rows.items()
    ]
    headings = ("weights stored as", "", "peak", "once open", "weights of convolutions")
    return f"{where(rows.values(), 'onnxruntime')}\n\n{table(headings, lines)}"


BLOCKS: Mapping[str, Callable[[], str]] = {
    "export at full size": export_at_full_size,
    "single files": single_files,
    "prompt encoding": prompt_encoding,
    "tiled decode": tiled_decode,
    "memory": memory,
    "loading memory": loading_memory,
}
