"""Notes: facts about a result or an export that a user should know, but that are not errors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """One fact that a user should know.

    Fields:
        code: stable, for programs, such as "prompt_truncated"
        field: the parameter or the part of a checkpoint that it is about, or None
        message: one line, for people
    """

    code: str
    field: str | None
    message: str

    def __str__(self) -> str:
        return self.message


class NoteWarning(UserWarning):
    """Notes, issued as one warning to callers that may not read them."""


def warn_of_notes(notes: Sequence[Note]) -> None:
    """One `NoteWarning` for the caller of the calling function, unless there are no notes."""
    if notes:
        warnings.warn("; ".join(map(str, notes)), NoteWarning, stacklevel=3)
