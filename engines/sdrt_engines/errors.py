"""The root of sdrt's errors, and what an engine can raise.

Every message says what happened, what was got, what was expected, and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


class SdrtError(Exception):
    """Everything that sdrt raises on purpose; its text is fit for one line on a terminal."""


class EngineError(SdrtError):
    """A network could not be opened or run."""


class TensorError(EngineError):
    """A tensor's name, dtype or shape is not what the signature allows."""


class TargetError(EngineError):
    """A target is unknown, or does not open on this machine."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether a library's error says so; each has words of its own for it."""
    words = r"bad.?alloc|(failed to|could not|cannot) allocate|out of memory"
    return isinstance(error, MemoryError) or bool(re.search(words, str(error), re.IGNORECASE))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about the unknown `word`: the name that is meant, or all that exist."""
    names = list(known)
    if near := nearest(word, names):
        return f"did you mean '{near}'?"
    return f"known: {', '.join(names) or 'none'}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The name that is meant by the unknown `word`, in upper or lower case, if one is near."""
    from difflib import get_close_matches  # only errors need it

    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[close[0]] if close else None
