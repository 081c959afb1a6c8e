"""Text for a terminal: what a file says cannot move the cursor, change the title or hide text."""

from __future__ import annotations

import re

# Control characters except line breaks and tabs, and those that reverse the direction of writing.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


_MAX_WORD = 300  # characters; a message is a line for people


def shortened(text: str) -> str:
    """The text with endless words cut in the middle."""
    return re.sub(rf"\S{{{_MAX_WORD},}}", lambda word: f"{word[0][:140]}…{word[0][-140:]}", text)


def printable(text: object) -> str:
    """The text with control characters as `\\u001b`, the form in which JSON holds them."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))
