"""Tables and a plot from the rows of a run: `docs/peers.md` and `docs/peers.png`.

    python bench/peers/report.py [--run NAME]      # default: the newest run

Needs matplotlib. Seconds are medians of the rounds; every ratio is of two rows of the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from recording import RESULTS

from peers.contestants import FURTHER, LONG, ORACLE, SAVING, SHORT
from peers.equal_precision import images_of, losses, relative_table
from peers.rows import (
    Row,
    answered,
    decibels,
    failures,
    fastest_first,
    figure,
    is_ours,
    seconds,
    spread,
    step_of,
    table,
)

DOCS = Path(__file__).parents[2] / "docs"
OURS, THEIRS = "#1f6feb", "#9aa4b2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", help="default: the newest")
    options = parser.parse_args()
    rows = rows_of(options.run)
    others = rows_of(None, "savings"), rows_of(None, "sdxl_steps")
    (DOCS / "peers.md").write_text(page(rows, *others), encoding="utf-8")
    draw(rows, DOCS / "peers.png")


def rows_of(run: str | None, bench: str = "peers") -> list[Row]:
    lines = (RESULTS / f"{bench}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    newest = max(row["run"] for row in rows)
    return [row for row in rows if row["run"] == (run or newest)]


def page(rows: Sequence[Row], savings: Sequence[Row] = (), sdxl: Sequence[Row] = ()) -> str:
    """The page, with its tables made from the rows."""
    bars = "![Seconds of a step](peers.png)"
    further = savings_section(savings), sdxl_section(sdxl)
    sections = [introduction(rows), bars, *tables(rows), losses(rows), *further]
    return "# sdrt and its peers\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def introduction(rows: Sequence[Row]) -> str:
    machine, first = rows[0]["machine"], rows[0]
    return (
        f"Stable Diffusion 1.5 at full size with seeded random weights, 512×512, guidance 7.5, "
        f"Euler, {first['threads']} threads, on {machine['cores']} cores of {machine['cpu']} "
        f"({machine['system']}, Python {machine['python']}). One process at a time, in turn; run "
        f"`{first['run']}`, sdrt at commit `{rows[-1]['sdrt_commit']}`. Made by "
        "`bench/peers/report.py` from `bench/results/peers.jsonl`; `make bench-peers` measures "
        "again. The machine is shared and noisy: rely on the ratios, and expect another ranking on "
        "another processor."
    )


def tables(rows: Sequence[Row]) -> Iterator[str]:
    yield "## Step, image, memory\n\n" + short_table(rows)
    yield f"## sdrt relative to the best peer of equal precision\n\n{relative_table(rows)}"
    yield "## Where an image's seconds go\n\n" + stage_table(rows)
    for question in (LONG, *FURTHER):
        if asked := [row for row in rows if row["question"]["name"] == question.name]:
            name = question.name[0].upper() + question.name[1:]
            yield f"## {name}\n\n" + question_table(asked)
    yield "## What was compared\n\n" + version_table(rows)


def short_table(rows: Sequence[Row]) -> str:
    asked = [row for row in rows if row["question"]["name"] == SHORT.name]
    warm, cold = ([row for row in asked if row.get("files") == files] for files in ("warm", "cold"))
    baseline = figure(answered(asked, ORACLE), step_of)
    lines = []
    for name in fastest_first(asked):
        mine = answered(asked, name)
        step = figure(mine, step_of)
        lines.append(
            (
                name,
                f"{step:.2f} ({spread(mine, step_of)})",
                f"{step / baseline:.2f}" if baseline else "",
                f"{figure(mine, lambda row: row['image']):.1f}",
                seconds(answered(warm, name), "ready"),
                seconds(answered(warm, name), "first_step"),
                seconds(answered(cold, name), "first_step"),
                f"{figure(mine, lambda row: row['peak_mib']):,.0f}",
                decibels(mine),
            )
        )
    lines += [(name, reason, *[""] * 7) for name, reason in failures(asked)]
    headings = (
        "",
        "one step, s (range)",
        f"step relative to {ORACLE}",
        "image with 4 steps, s",
        "start until ready, s",
        "start to end of first step, s",
        "the same, with files not in the disk cache",
        "peak memory, MiB",
        f"PSNR against {ORACLE}, dB",
    )
    return table(headings, lines)


def savings_section(rows: Sequence[Row]) -> str:
    """The presets; "" without rows."""
    if not rows:
        return ""
    lines = []
    for question in SAVING:
        asked = [row for row in answered(rows) if row["question"]["name"] == question.name]
        images = images_of(asked, question)
        best = min((images[name] for name in images if not is_ours(name)), default=0.0)
        for name in sorted(images, key=lambda name: images[name]):
            mine = answered(asked, name)
            lines.append(
                (
                    name,
                    f"{question.guidance_scale:g}",
                    f"{figure(mine, calls_of):.0f}",
                    f"{images[name]:.1f}",
                    f"{images[name] / best:.2f}" if best else "",
                    f"{figure(mine, lambda row: row['peak_mib']):,.0f}",
                )
            )
    headings = (
        "",
        "guidance",
        "calls of the model",
        "whole image, s",
        "relative to the fastest peer",
        "peak memory, MiB",
    )
    return (
        "## 20 steps with less work\n\nThe presets of [`--speed`](speed.md), which has their "
        "fidelity, on the targets that `auto` takes for them after `sdrt tune`; the peers compute "
        f"every step in full (`bench/peers/savings.py`). Run `{rows[0]['run']}`, sdrt at commit "
        f"`{rows[-1]['sdrt_commit']}`. With these random weights the guard asks for no more calls "
        "than planned; with the built-in model it does at guidance 7.5, so expect more time "
        f"there.\n\n{table(headings, lines)}"
    )


def calls_of(row: Row) -> float:
    """Those that the model answered."""
    return float(row["num_calls"] or row["question"]["steps"])


def sdxl_section(rows: Sequence[Row]) -> str:
    """SDXL's steps; "" without rows."""
    if not rows:
        return ""
    baseline = figure(answered(rows, ORACLE), step_of)
    lines = []
    for name in fastest_first(rows):
        mine = answered(rows, name)
        lines.append(
            (
                name,
                f"{figure(mine, step_of):.1f} ({spread(mine, step_of)})",
                f"{figure(mine, step_of) / baseline:.2f}" if baseline else "",
                seconds(mine, "first_step"),
                f"{figure(mine, lambda row: row['peak_mib']):,.0f}",
                decibels(mine),
            )
        )
    lines += [(name, f"does not fit: {reason}", *[""] * 4) for name, reason in failures(rows)]
    headings = (
        "",
        "one step, s (range)",
        f"relative to {ORACLE}",
        "start to end of first step, s",
        "peak memory, MiB",
        f"PSNR of the latents against {ORACLE}, dB",
    )
    return (
        f"## SDXL at 1024×1024\n\nThe second of two steps with guidance, three rounds, without "
        f"the VAE (`bench/peers/sdxl.py`), run `{rows[0]['run']}`, sdrt at commit "
        f"`{rows[-1]['sdrt_commit']}`. A process may take 18 GiB.\n\n{table(headings, lines)}"
    )


def stage_table(rows: Sequence[Row]) -> str:
    asked = [row for row in rows if row["question"]["name"] == SHORT.name]
    lines = []
    for name in fastest_first(asked):
        mine = answered(asked, name)
        stages = [seconds(mine, "stages", stage) for stage in ("text_encoder", "vae_decoder")]
        lines.append((name, stages[0], f"{figure(mine, step_of):.2f}", stages[1]))
    return table(("", "text encoder, s", "one step, s", "VAE decoder, s"), lines)


def question_table(asked: Sequence[Row]) -> str:
    lines = [
        (
            row["contestant"],
            f"{row['image']:.1f}",
            f"{step_of(row):.2f}" if row["steps"] else "",
            f"{row['peak_mib']:,}",
        )
        for row in sorted(answered(asked), key=lambda row: row["image"])
    ]
    lines += [(name, reason, *[""] * 2) for name, reason in failures(asked)]
    headings = ("", "whole image or batch, s", "one step, s", "peak memory, MiB")
    return table(headings, lines)


def version_table(rows: Sequence[Row]) -> str:
    found: dict[str, Mapping[str, str]] = {}
    for row in answered(rows):
        found.setdefault(row["contestant"], row["versions"])
    lines = [
        (name, ", ".join(f"{package} {number}" for package, number in versions.items()))
        for name, versions in found.items()
    ]
    return table(("", "versions"), lines)


def draw(rows: Sequence[Row], path: Path) -> None:
    """A bar per contestant, a dot per round."""
    from matplotlib.figure import Figure

    asked = [row for row in rows if row["question"]["name"] == SHORT.name]
    names = fastest_first(asked)[::-1]
    figure_ = Figure(figsize=(8, 0.42 * len(names) + 1.2), layout="constrained")
    axes = figure_.subplots()
    for place, name in enumerate(names):
        steps = [step_of(row) for row in answered(asked, name)]
        color = OURS if is_ours(name) else THEIRS
        axes.barh(place, median(steps), color=color, height=0.65)
        axes.plot(steps, [place] * len(steps), "o", color="black", markersize=3)
        axes.annotate(
            f"{median(steps):.2f}", (max(steps), place), (6, -3), textcoords="offset points"
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("seconds of a step (UNet with guidance, 512×512); dots are rounds")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.08)
    figure_.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
