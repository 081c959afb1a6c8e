"""The verdict of `sdrt tune` as tables, also for `sdrt doctor BUNDLE`."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from sdrt.targets.admission import refusal_of_measured
from sdrt.targets.auto import slowness_warning
from sdrt.targets.tuned import StepTime, Trial, TunedTarget, Tuning
from sdrt_engines import Target

_HEADINGS = ("threads", "s per step", "±", "s per image", "PSNR")


def print_verdict(tuning: Tuning, console: Console) -> None:
    """A table for each shape, the choice of `auto`, and targets that are slower than they seem."""
    for index in range(len(tuning.shapes)):
        console.print(_table(tuning, index))
        console.print()
    for found in tuning.targets:
        if warning := slowness_warning(tuning, Target.parse(found.target)):
            console.print(warning, soft_wrap=True)
    console.print(_sentence(tuning), soft_wrap=True)


def admitted(tuning: Tuning) -> list[TunedTarget]:
    """The targets that `auto` takes, the first one first."""
    return [found for found in tuning.ranking() if refusal_of_measured(found) is None]


def _sentence(tuning: Tuning) -> str:
    taken = admitted(tuning)
    if not taken:
        return "auto takes none of these targets"
    best = taken[0].best
    number = None if best is None else best.num_threads
    return f"auto takes {taken[0].target}" + (f" with {number} threads" if number else "")


def _table(tuning: Tuning, index: int) -> Table:
    table = Table(
        title=f"{tuning.shapes[index]}, {tuning.num_steps} steps",
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column("target")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    table.add_column("auto")
    for found in tuning.targets:
        for row in _rows(tuning, found, index):
            table.add_row(found.target, *row)
    return table


def _rows(tuning: Tuning, found: TunedTarget, index: int) -> Iterator[tuple[str, ...]]:
    """One row per number of threads; the best one has all figures of the target."""
    for trial in found.trials:
        if trial.error is not None:
            yield _threads(trial), "", "", "", "", f"failed: {trial.error}"
            continue
        times = _threads(trial), *_step_time(trial.steps[index])
        if trial is not found.best:
            yield *times, "", "", ""
        elif found.error is not None:
            yield *times, "", "", f"failed: {found.error}"
        else:
            image = f"{tuning.seconds_per_image(found)[index]:.2f}"
            yield *times, image, _decibels(found), _admission(tuning, found)


def _threads(trial: Trial) -> str:
    return "default" if trial.num_threads is None else str(trial.num_threads)


def _step_time(step: StepTime) -> tuple[str, str]:
    digits = 4 if step.seconds < 0.1 else 2
    return f"{step.seconds:.{digits}f}", f"{step.spread:.{digits}f}"


def _decibels(found: TunedTarget) -> str:
    return "float32" if found.psnr is None else f"{found.psnr:.0f} dB"


def _admission(tuning: Tuning, found: TunedTarget) -> str:
    if reason := refusal_of_measured(found):
        return f"no: {reason}"
    return "takes it" if found == admitted(tuning)[0] else "admitted"
