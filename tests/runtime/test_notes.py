"""A note is a value, and a line of text."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from sdrt.notes import Note, NoteWarning


def test_a_note_reads_as_its_message() -> None:
    note = Note("prompt_truncated", "prompt", "the prompt is longer than 77 tokens")
    assert str(note) == "the prompt is longer than 77 tokens"
    assert note == Note("prompt_truncated", "prompt", "the prompt is longer than 77 tokens")


def test_a_note_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Note("code", None, "message").message = "another"  # type: ignore[misc]


def test_programs_filter_notes_as_user_warnings() -> None:
    assert issubclass(NoteWarning, UserWarning)
