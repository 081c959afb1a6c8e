"""The console of tables and lists on stdout."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from sdrt.command_line.printable import printable


class PlainConsole(Console):
    """Prints texts of files as they are, except for control characters."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:  # the console's own
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)
