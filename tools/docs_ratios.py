"""The ratios in the README, each of two rows of one run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

from docs_reference import table
from docs_rows import figure, newest, peers


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


def _gpu_ratio(ours: str, theirs: str, what: str) -> tuple[str, ...]:
    rows = newest("gpu")
    return (
        f"H100, Stable Diffusion 1.5, {what} in float16",
        f"`cuda`: {figure(rows[ours])}",
        f"diffusers, `torch.compile`: {figure(rows[theirs])}",
        _ratio(rows[ours]["median"], rows[theirs]["median"]),
    )


BLOCKS: Mapping[str, Callable[[], str]] = {"ratios": ratios}
