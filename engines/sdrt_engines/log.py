"""The log: targets that were replaced, kernels that were not kept, captures that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import Logger


def log() -> Logger:
    from logging import getLogger  # not needed for `import sdrt`

    return getLogger("sdrt")
