"""The progress of a request, on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sdrt.result import Step


def shown(steps: Iterable[Step], console: Console | None = None) -> Iterator[Step]:
    """The same steps, with a bar on stderr that disappears after the last one."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console or Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("loading", total=None)
        for step in steps:
            progress.update(
                bar, description="denoising", total=step.total, completed=step.index + 1
            )
            yield step
