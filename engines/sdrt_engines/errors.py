"""The root of sdrt's errors, and the errors of an engine.

Every message says what happened, what was given, what was expected, and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


class SdrtError(Exception):
    """Every error that sdrt raises on purpose; its text fits on one line of a terminal."""


class EngineError(SdrtError):
    """A network could not be opened or run."""


class TensorError(EngineError):
    """A tensor's name, dtype or shape does not match the signature."""


class TargetError(EngineError):
    """A target is unknown or does not open on this machine."""


def is_out_of_memory(error: Exception) -> bool:
    """True if a library's error reports a lack of memory; each library words it differently."""
    words = r"bad.?alloc|(failed to|could not|cannot) allocate|out of memory"
    return isinstance(error, MemoryError) or bool(re.search(words, str(error), re.IGNORECASE))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown `word`: the nearest known name, or all known names."""
    names = list(known)
    if near := nearest(word, names):
        return f"did you mean '{near}'?"
    return f"known: {', '.join(names) or 'none'}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name nearest to `word`, ignoring case; None if no name is near."""
    from difflib import get_close_matches  # only errors need it

    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[close[0]] if close else None
