"""The root of sdrt's errors, and the errors of an engine.

Every message says what happened, what was given, what was expected, and what to do.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from reprlib import Repr
from traceback import walk_tb
from types import MappingProxyType

_NO_ALIASES: Mapping[str, str | tuple[str, ...]] = MappingProxyType({})
_ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit)
_MAX_NAME = 100  # characters; comparing longer words with known ones takes seconds
_MAX_LISTED = 20  # names in a message


class SdrtError(Exception):
    """Every error that sdrt raises on purpose; its text fits on one line of a terminal."""


class EngineError(SdrtError):
    """A network could not be opened or run."""


class OutOfMemoryError(EngineError):
    """A run needs more memory than there is; a smaller one may not."""


class TensorError(EngineError):
    """A tensor's name, dtype or shape does not match the signature."""


class TargetError(EngineError):
    """A target is unknown or does not open on this machine."""


def raise_interrupt(error: BaseException) -> None:
    """Raises what a signal's handler raised, if an extension turned that into `error`."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt) or _is_of_handler(cause):
            raise cause
        cause = cause.__cause__ or cause.__context__


def error_of_library(error: BaseException, failure: str, way_out: str) -> EngineError:
    """The one line for an exception that nobody expected of a library; `failure` begins it.

    Raises `error` itself if it is an error of sdrt, or of a signal's handler, or ends Python.
    """
    if isinstance(error, (SdrtError, *_ENDS)) or _is_of_handler(error):
        raise error
    kind = OutOfMemoryError if is_out_of_memory(error) else EngineError
    return kind(f"{failure} ({described(error)}): {way_out}")


def described(error: BaseException) -> str:
    """An exception on one line, with its kind, as Python's traceback ends."""
    return ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))


def _is_of_handler(error: BaseException) -> bool:
    """True if a signal's handler raised it, at whatever moment."""
    codes = [_code_of(signal.getsignal(number)) for number in signal.valid_signals()]
    return any(frame.f_code in codes for frame, _ in walk_tb(error.__traceback__))


def _code_of(handler: object) -> object:
    """The code of a function, a method, or an object that is called."""
    function = handler if hasattr(handler, "__code__") else vars(type(handler)).get("__call__")
    return getattr(function, "__code__", None)


class _OneLine(Repr):
    """Python's `repr` of any value, in about 80 characters."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write a whole number of more than 4300 digits."""
        if x.bit_length() > 2000:
            return f"a whole number of {x.bit_length()} bits"
        return super().repr_int(x, level)


_ONE_LINE = _OneLine()


def quoted(value: object) -> str:
    """A value as messages quote it: as Python writes it, on one line, cut in the middle."""
    return " ".join(_ONE_LINE.repr(value).split())


def is_out_of_memory(error: BaseException) -> bool:
    """True if a library's error reports a lack of memory; each library words it differently."""
    words = (
        r"bad.?alloc|can.?t (alloc|start new thread)|(failed to|could not|cannot) (allocate|map)|"
        r"could not be allocated|out.?of.?memory|cudaErrorMemoryAllocation"
    )
    return isinstance(error, MemoryError) or bool(re.search(words, str(error), re.IGNORECASE))


def did_you_mean(
    word: str, known: Iterable[str], aliases: Mapping[str, str | tuple[str, ...]] = _NO_ALIASES
) -> str:
    """The end of a message about an unknown `word`: the nearest known name, or the known names.

    `aliases` holds words of other programs, in lower case, and the known names that they mean; an
    alias counts more than a name that is spelt alike.
    """
    names = list(known)
    word = word[:_MAX_NAME]
    if meant := _meant(word, names, aliases.get(word.lower(), ())):
        return "did you mean " + " or ".join(f"'{name}'" for name in meant) + "?"
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"known: {', '.join(names[:_MAX_LISTED]) or 'none'}{more}"


def _meant(word: str, known: Sequence[str], alias: str | tuple[str, ...]) -> list[str]:
    meant = [alias] if isinstance(alias, str) else alias
    near = nearest(word, known)
    return [name for name in meant if name in known] or ([near] if near else [])


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name nearest to `word`, ignoring case; None if no name is near.

    `cutoff` is the share of letters in common. A word of three letters with a wrong one is not
    near: "npu" is not "cpu".
    """
    from difflib import get_close_matches  # only errors need it

    if len(word) > _MAX_NAME:
        return None
    by_lower = {name.lower(): name for name in known}
    for close in get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff):
        if len(close) > 3 or len(close) != len(word) or sorted(close) == sorted(word.lower()):
            return by_lower[close]
    return None
