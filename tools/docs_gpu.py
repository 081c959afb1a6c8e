"""The tables of TensorRT-RTX plans and of the target `cuda`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from docs_reference import table
from docs_rows import NETWORKS, all_rows, decibels, figure, newest, number, where


def plans_of(bench: str) -> str:
    rows = newest(bench)
    lines = []
    for name, title in NETWORKS.items():
        if f"{name}, plan" not in rows:
            continue
        time, plan = rows[f"{name}, precision and build"], rows[f"{name}, plan"]
        memory = max(
            (rows[f"{name}, {part}, peak memory"] for part in ("precision", "build")),
            key=lambda row: float(row["median"]),
        )
        notes = time["notes"]
        figures = figure(time), figure(memory), figure(plan)
        lines.append((title, notes["precision"], *figures, decibels(notes["psnr"])))
    headings = (
        "network",
        "precision",
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
            lines.append((title, *(decibels(row["median"]) if row else "" for row in cells)))
    used = [row for row in rows.values() if row["name"].endswith(", PSNR")]
    headings = ("PSNR against the CPU in float32", "float32", "float16", "float16, fused")
    return f"{where(used, 'onnxruntime-gpu')}\n\n{table(headings, lines)}"


BLOCKS: Mapping[str, Callable[[], str]] = {
    "plans at full size": partial(plans_of, "build_full_size"),
    "sdxl plans": partial(plans_of, "sdxl_plans"),
    "gpu speed": gpu_speed,
    "gpu rows": gpu_rows,
    "gpu precision": gpu_precision,
}
