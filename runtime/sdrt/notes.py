"""Notes: what a user should know about a result, or about an export, that is not an error."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """One fact, as a program reads it (`code`, `field`) and as a person does (`message`)."""

    code: str  # stable, for programs: "prompt_truncated"
    field: str | None  # what it is about: a parameter, or a part of a checkpoint
    message: str  # one line

    def __str__(self) -> str:
        return self.message


class NoteWarning(UserWarning):
    """A note, issued as a warning to callers that do not look at notes."""
