"""The root of sdrt's errors, and what an engine can raise.

Every message says what happened, what was got, what was expected, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable


class SdrtError(Exception):
    """Everything that sdrt raises on purpose; its text is fit for one line on a terminal."""


class EngineError(SdrtError):
    """A network could not be opened or run."""


class TensorError(EngineError):
    """A tensor's name, dtype or shape is not what the signature allows."""


class TargetError(EngineError):
    """A target is unknown, or does not open on this machine."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about the unknown `word`: the name that is meant, or all that exist."""
    from difflib import get_close_matches  # only errors need it

    names = list(known)
    close = get_close_matches(word.lower(), names, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(names) or 'none'}"
