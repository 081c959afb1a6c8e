"""Imports of backends' libraries, which may be missing, broken, or another module of that name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from sdrt_engines.errors import EngineError, described, is_out_of_memory, raise_interrupt

_INSTALLED = {"site-packages", "dist-packages"}  # folders


@contextmanager
def importing(library: str, install: str) -> Iterator[None]:
    """Whatever an import in the block raises becomes an `EngineError`, which ends with `install`.

    A file or folder of the same name, in the working folder or next to a script, may come first:
    the block should also import a name that only the library has.
    """
    try:
        yield
    except BaseException as error:  # a module may also call sys.exit
        raise_interrupt(error)
        expected = isinstance(error, ImportError | OSError)  # OSError: it lacks another library
        reason = " ".join(str(error).split()) if expected else described(error)
        raise EngineError(
            f"{library} cannot be imported ({reason}): {_way_out(error, library, install)}"
        ) from error


def _way_out(error: BaseException, library: str, install: str) -> str:
    if is_out_of_memory(error):
        return "there is not enough memory: close other programs"
    if other := _other_module(library):
        return f"rename '{other}' if that is not the library, else {install}"
    return install


def _other_module(library: str) -> Path | None:
    """The file or folder that Python imports under this name, if it was not installed by pip."""
    spec = None
    with suppress(ImportError, ValueError):
        spec = find_spec(library)
    if spec is None or (place := _place(spec.origin, spec.submodule_search_locations)) is None:
        return None
    return None if _INSTALLED & set(place.parts) else place


def _place(origin: str | None, folders: Iterable[str] | None) -> Path | None:
    first = next(iter(folders or ()), origin)
    return None if first is None else Path(first)
