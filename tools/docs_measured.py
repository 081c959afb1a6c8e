"""The tables of measured figures, from the rows in bench/results/: the newest row of each name."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from docs_reference import table

RESULTS = Path(__file__).parent.parent / "bench" / "results"
Row: TypeAlias = Mapping[str, Any]

CONTROL_COST = (  # rows of that bench, by the page's names
    "UNet",
    "UNet with residuals of zero",
    "ControlNet",
    "the part of it that embeds the control image",
)

# The networks of the full-size bundle, in the order in which an image passes through them.
NETWORKS = {
    "text_encoder": "text encoder",
    "unet": "UNet",
    "unet_controlled": "UNet that takes residuals",
    "vae_decoder": "VAE decoder",
    "vae_encoder": "VAE encoder",
    "controlnet_edges": "ControlNet",
}


@cache
def all_rows(bench: str) -> tuple[Row, ...]:
    """Every row of a bench, the oldest first."""
    lines = (RESULTS / f"{bench}.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(json.loads(line) for line in lines)


def newest(bench: str, **notes: Any) -> dict[str, Row]:
    """The newest row of each name that has these notes."""
    return {
        row["name"]: row
        for row in all_rows(bench)
        if all(row["notes"].get(name) == value for name, value in notes.items())
    }


def number(value: float) -> str:
    """A number with three digits, or all digits before the decimal point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def figure(row: Row) -> str:
    """`0.63 s`"""
    return f"{number(row['median'])} {row['unit']}"


def where(rows: Iterable[Row], *packages: str) -> str:
    """The machine, versions and day of the rows, as one line."""
    newest_row = max(rows, key=lambda row: str(row["date"]))
    machine = newest_row["machine"]
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores",
        *([machine["gpu"]] if "gpu" in machine else []),
        f"{machine['system']}, Python {machine['python']}",
        *(f"{name} {newest_row['versions'][name]}" for name in packages),
        newest_row["date"][:10],
    ]
    return f"*{'; '.join(parts)}.*"


# --- the README's ratios


def ratios() -> str:
    """The five ratios in the README, each of two rows of one run."""
    return table(
        ("", "sdrt", "compared with", "ratio"),
        [
            _demo_ratio(),
            _size_ratio(),
            _peer_ratio("sdrt openvino:bf16", "diffusers bf16"),
            _gpu_ratio(
                "UNet step, fused, 2 rows", "UNet step, diffusers compiled, 2 rows", "one step"
            ),
            _gpu_ratio(
                "image 512², 50 steps, batch 1, sdrt cuda",
                "image 512², 50 steps, batch 1, diffusers compiled",
                "image with 50 steps",
            ),
        ],
    )


def _ratio(ours: float, theirs: float) -> str:
    return f"**{ours / theirs:.2f}**"


def _demo_ratio() -> tuple[str, ...]:
    rows = newest("demo_run")
    ours, theirs = rows["sdrt run demo"], rows["diffusers"]
    return (
        "CPU, demo model: from starting the process to the image, 20 steps",
        figure(ours),
        f"diffusers float32: {figure(theirs)}",
        _ratio(ours["median"], theirs["median"]),
    )


def _size_ratio() -> tuple[str, ...]:
    ours, theirs = newest("installed_size").values()
    return (
        "installed size",
        figure(ours),
        f"diffusers with torch for the CPU: {figure(theirs)}",
        _ratio(ours["median"], theirs["median"]),
    )


def _peer_ratio(ours: str, theirs: str) -> tuple[str, ...]:
    steps = [_step_of(name) for name in (ours, theirs)]
    return (
        "CPU, Stable Diffusion 1.5, one step in bfloat16",
        f"`{ours.removeprefix('sdrt ')}`: {steps[0]:.2f} s",
        f"{theirs}: {steps[1]:.2f} s",
        _ratio(*steps),
    )


def _step_of(contestant: str) -> float:
    """Seconds of a step with guidance at 512×512."""
    rounds = [statistics.median(row["steps"]) for row in peers(contestant, "4 steps")]
    return float(statistics.median(rounds))


def peers(contestant: str, question: str) -> list[Row]:
    """A peer's answers to a question in the newest run of peers."""
    rows = all_rows("peers")
    newest_run = max(row["run"] for row in rows)
    return [
        row
        for row in rows
        if (row["run"], row["contestant"]) == (newest_run, contestant)
        and row["question"]["name"] == question
        and "error" not in row
    ]


def _gpu_ratio(ours: str, theirs: str, what: str) -> tuple[str, ...]:
    rows = newest("gpu")
    return (
        f"H100, Stable Diffusion 1.5, {what} in float16",
        f"`cuda`: {figure(rows[ours])}",
        f"diffusers, `torch.compile`: {figure(rows[theirs])}",
        _ratio(rows[ours]["median"], rows[theirs]["median"]),
    )


# --- starting, installing, host time


def starting() -> str:
    run, imports = newest("demo_run"), newest("import_time")
    sizes, host, auto = newest("installed_size"), newest("host_time"), newest("auto_target")
    lines = [
        ("`sdrt run demo`, from starting the process to the image", figure(run["sdrt run demo"])),
        ("the same with diffusers, with the same weights and image", figure(run["diffusers"])),
        (
            "`import numpy`, in addition to starting Python",
            figure(imports["import numpy, over bare"]),
        ),
        (
            "`import sdrt`, in addition to starting Python",
            figure(imports["import sdrt, over bare"]),
        ),
        (
            "importing diffusers' pipeline, in addition to starting Python",
            figure(imports["import diffusers' pipeline, over bare"]),
        ),
        ("installed size: sdrt, including the demo model", figure(sizes["sdrt"])),
        (
            "installed size: torch (CPU), diffusers, transformers, accelerate",
            figure(sizes["torch + diffusers + transformers + accelerate"]),
        ),
        *((f"host time per step: {name.partition(',')[0]}", figure(host[name])) for name in host),
        *((f"`sdrt run demo`, {name}", figure(auto[name])) for name in auto),
    ]
    return f"{where([*run.values(), *imports.values()])}\n\n{table(('', 'median'), lines)}"


# --- the demo model


def demo_quality() -> str:
    rows = newest("demo_quality")
    notes = next(iter(rows.values()))["notes"]
    lines = [
        (name.removesuffix(" right").replace("ground", "background"), f"{row['median']:g} %")
        for name, row in rows.items()
    ]
    text = f"{notes['prompts']} seeded prompts, {notes['steps']} steps."
    return (
        f"{where(rows.values())}\n\n{text}\n\n{table(('what is right', 'share of images'), lines)}"
    )


def demo_control() -> str:
    lines = []
    for scale in (1.0, 0.0):
        rows = newest("demo_control_quality", scale=scale)
        share = rows["colours right"]["median"]
        lines.append((f"{scale:g}", number(rows["edge IoU"]["median"]), f"{share:g} %"))
    notes = rows["edge IoU"]["notes"]
    text = (
        f"{notes['pairs']} held-out pairs of outline and prompt; "
        f"{notes['prompts that ask for another shape']} prompts ask for a different shape from the "
        f"one in the outline; edges count as equal within {notes['tolerance, pixels']} pixels."
    )
    headings = ("ControlNet scale", "mean IoU of edges", "both colours right")
    return f"{where(rows.values())}\n\n{text}\n\n{table(headings, lines)}"


# --- full size on the CPU


def export_at_full_size() -> str:
    rows = newest("export_full_size")
    lines = []
    for name, title in {**NETWORKS, "whole export": "`sdrt export`, everything"}.items():
        if f"{name}, time" in rows:
            time, memory = rows[f"{name}, time"], rows[f"{name}, peak memory"]
            written = f"{time['notes']['MB written']:,} MB"
            lines.append((title, figure(time), figure(memory), written, time["notes"]["PSNR"]))
    headings = ("network", "time", "peak memory", "size on disk", "PSNR against torch")
    return f"{where(rows.values())}\n\n{table(headings, lines)}"


def weight_storage() -> str:
    rows = newest("weight_storage")
    lines = [
        (
            weights,
            f"{rows[f'{weights}, a step']['notes']['MB on the disk']:,} MB",
            figure(rows[f"{weights}, to open, with the first step"]),
            figure(rows[f"{weights}, a step"]),
        )
        for weights in ("fp32", "fp16")
    ]
    headings = (
        "weights stored as",
        "size on disk",
        "time to open, with the first step",
        "each further step",
    )
    return f"{where(rows.values(), 'onnxruntime')}\n\n{table(headings, lines)}"


def prepared_graphs() -> str:
    rows = newest("cpu_opening")
    whats = ("to open", "first step", "a step", "memory of its own")
    lines: list[tuple[str, ...]] = []
    for how in ("as it is", "prepared"):
        cells = [figure(rows[f"{how}, {what}"]) for what in whats]
        disk = rows[f"{how}, a step"]["notes"]["MB on the disk"]
        lines.append((how, *cells, f"{disk:,} MB"))
    ratio = [
        f"{rows[f'prepared, {what}']['median'] / rows[f'as it is, {what}']['median']:.2f}"
        for what in whats
    ]
    lines.append(("ratio", *ratio, ""))
    headings = (
        "",
        "time to open",
        "first step",
        "each further step",
        "private memory",
        "size on disk",
    )
    return f"{where(rows.values(), 'onnxruntime')}\n\n{table(headings, lines)}"


def control_cost() -> str:
    rows = newest("control_cost")
    lines = [
        (title, figure(rows[name]), f"{rows[name]['notes']['of the UNet']:.2f}")
        for title, name in zip(CONTROL_COST, rows, strict=True)
    ]
    return (
        f"{where(rows.values())}\n\n{table(('', 'time per step', 'relative to the UNet'), lines)}"
    )


def openvino() -> str:
    rows = _of_the_last_run("openvino_unet")
    lines = [
        (row["name"], figure(row), row["notes"]["to open, with the first step"]) for row in rows
    ]
    headings = ("one UNet step", "median", "time to open, with the first step")
    return f"{where(rows, 'openvino')}\n\n{table(headings, lines)}"


def shapes_in_turn() -> str:
    rows = newest("shapes_in_turn")
    lines = [
        (name, number(row["median"]), number(row["notes"]["other's median"]))
        for name, row in rows.items()
    ]
    headings = (
        "",
        "compiled once for all sizes, s per image",
        "compiled for each size, s per image",
    )
    return f"{where(rows.values(), 'openvino')}\n\n{table(headings, lines)}"


def tuning() -> str:
    rows = newest("tuning")
    lines = [(name, figure(row), _decibels(row["notes"].get("PSNR"))) for name, row in rows.items()]
    return f"{where(rows.values())}\n\n{table(('', 'median', 'PSNR against float32'), lines)}"


def _of_the_last_run(bench: str) -> Sequence[Row]:
    rows = all_rows(bench)
    return [row for row in rows if row["date"] == rows[-1]["date"]]


def _decibels(psnr: float | None) -> str:
    return "" if psnr is None else f"{psnr:.0f} dB"


# --- TensorRT-RTX and CUDA


def plans_at_full_size() -> str:
    rows = newest("build_full_size")
    lines = []
    for name, title in NETWORKS.items():
        time, plan = rows[f"{name}, precision and build"], rows[f"{name}, plan"]
        memory = max(
            (rows[f"{name}, {part}, peak memory"] for part in ("precision", "build")),
            key=lambda row: float(row["median"]),
        )
        psnr = _decibels(time["notes"]["psnr"])
        lines.append((title, figure(time), figure(memory), figure(plan), psnr))
    headings = (
        "network",
        "time to choose precisions and build",
        "peak memory",
        "plan size",
        "PSNR",
    )
    return f"{where(rows.values())}\n\n{table(headings, lines)}"


def gpu_speed() -> str:
    rows = newest("gpu")
    image, batch = "image 512², 50 steps, batch 1, {}", "image 512², 50 steps, batch 8, {}"
    contestants = {
        "sdrt `cuda`": ("UNet step, fused, 2 rows", "sdrt cuda"),
        "the same without CUDA graphs": (
            "UNet step, fused, no CUDA graph, 2 rows",
            "sdrt cuda, no CUDA graph",
        ),
        "diffusers, `torch.compile` (reduce-overhead)": (
            "UNet step, diffusers compiled, 2 rows",
            "diffusers compiled",
        ),
        "diffusers, eager (SDPA, channels last)": (
            "UNet step, diffusers eager, 2 rows",
            "diffusers eager",
        ),
    }
    lines = []
    for title, (step, name) in contestants.items():
        names = (step, image.format(name), batch.format(name))
        lines.append((title, *(figure(rows[each]) if each in rows else "" for each in names)))
    headings = ("", "one UNet step", "image with 50 steps", "8 images in a batch, 50 steps")
    used = [row for row in rows.values() if row["name"].startswith("image")]
    line = where(used, "onnxruntime-gpu", "torch", "diffusers")
    compiled = figure(rows["diffusers compiled: UNet and VAE"])
    text = f"`torch.compile` took {compiled} to compile the UNet and the VAE."
    return f"{line}\n\n{table(headings, lines)}\n\n{text}"


def gpu_rows() -> str:
    counts = (1, 2, 4, 8, 16, 32)
    found = [
        [row for row in all_rows("gpu") if row["name"] == f"UNet step, fused, {count} rows"]
        for count in counts
    ]
    of_the_sweep = [next(row for row in each if "per_row" in row["notes"]) for each in found]
    lines = [
        (count, figure(row), f"{number(row['notes']['per_row'])} ms")
        for count, row in zip(counts, of_the_sweep, strict=True)
    ]
    headings = ("rows", "one UNet step", "per row")
    return f"{where(of_the_sweep, 'onnxruntime-gpu')}\n\n{table(headings, lines)}"


def gpu_precision() -> str:
    rows = newest("gpu")
    variants = ("as exported, float32", "half", "fused")
    lines = []
    for name, title in NETWORKS.items():
        cells = [rows.get(f"{name}, {variant}, PSNR") for variant in variants]
        if any(cells):
            lines.append((title, *(_decibels(row["median"]) if row else "" for row in cells)))
    used = [row for row in rows.values() if row["name"].endswith(", PSNR")]
    headings = ("PSNR against the CPU in float32", "float32", "float16", "float16, fused")
    return f"{where(used, 'onnxruntime-gpu')}\n\n{table(headings, lines)}"


BLOCKS: Mapping[str, Callable[[], str]] = {
    "ratios": ratios,
    "starting": starting,
    "demo quality": demo_quality,
    "demo control": demo_control,
    "export at full size": export_at_full_size,
    "weight storage": weight_storage,
    "prepared graphs": prepared_graphs,
    "control cost": control_cost,
    "openvino": openvino,
    "shapes in turn": shapes_in_turn,
    "tuning": tuning,
    "plans at full size": plans_at_full_size,
    "gpu speed": gpu_speed,
    "gpu rows": gpu_rows,
    "gpu precision": gpu_precision,
}
