"""The progress of an export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sdrt_export.options import Report

WAITING = "waiting for another writer of the bundle to end"


@contextmanager
def shown_progress() -> Iterator[Report]:
    """A line on the terminal with the current stage and the time since the start."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("exporting")
        yield lambda stage: progress.update(task, description=stage)
