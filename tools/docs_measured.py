"""The tables of measured figures, from the rows in bench/results/: the newest row of each name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from docs_reference import table
from docs_rows import (
    decibels,
    figure,
    newest,
    number,
    of_the_last_run,
    where,
)

CONTROL_COST = (  # rows of that bench, by the page's names
    "UNet",
    "UNet with residuals of zero",
    "ControlNet",
    "the part of it that embeds the control image",
)

ORDERS = ("as exported", "convolutions first")  # of that bench

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
    rows = of_the_last_run("openvino_unet")
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


def upsampling() -> str:
    rows = newest("upsampling")
    lines = [
        (
            name.split(",")[0],
            row["notes"]["target"],
            f"{number(row['notes']['as exported'])} s",
            figure(row),
            f"{row['notes']['ratio']:.2f}",
            *(f"{row['notes'][f'peak, MiB, {order}']:,} MiB" for order in ORDERS),
        )
        for name, row in rows.items()
    ]
    times = [f"time, {order}" for order in ORDERS]
    headings = (
        "network",
        "target",
        *times,
        "ratio",
        *(f"peak memory, {order}" for order in ORDERS),
    )
    return f"{where(rows.values(), 'onnxruntime', 'openvino')}\n\n{table(headings, lines)}"


def vae() -> str:
    rows = newest("vae")
    lines = [
        (*name.split(", ")[:2], figure(row), f"{row['notes']['steps']:.2f}")
        for name, row in rows.items()
    ]
    headings = ("network", "target", "time", "in steps")
    return f"{where(rows.values(), 'onnxruntime', 'openvino')}\n\n{table(headings, lines)}"


def tuning() -> str:
    rows = newest("tuning")
    lines = [(name, figure(row), decibels(row["notes"].get("PSNR"))) for name, row in rows.items()]
    return f"{where(rows.values())}\n\n{table(('', 'median', 'PSNR against float32'), lines)}"


BLOCKS: Mapping[str, Callable[[], str]] = {
    "starting": starting,
    "demo quality": demo_quality,
    "demo control": demo_control,
    "weight storage": weight_storage,
    "prepared graphs": prepared_graphs,
    "control cost": control_cost,
    "openvino": openvino,
    "shapes in turn": shapes_in_turn,
    "upsampling": upsampling,
    "vae": vae,
    "tuning": tuning,
}
