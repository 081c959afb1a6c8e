"""Names of a model's weights, and the keys of a file that hold them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Key:
    """The place of a weight in a file."""

    key: str
    third: int | None = None  # of a tensor that joins the projections to queries, keys and values
    transposed: bool = False
    file: str | None = None  # the one of several files that holds it

    def shape(self, stored: Shape) -> Shape:
        """The shape of the weight, from that of the tensor."""
        if self.third is not None and stored and stored[0] % 3 == 0:
            stored = (stored[0] // 3, *stored[1:])
        return stored[::-1] if self.transposed else stored


Names: TypeAlias = Mapping[str, Key]  # the weights of a model by its own names
Reading: TypeAlias = Callable[[Collection[str]], Names]  # keys of one model to its names


def names_from_modules(keys: Iterable[str], modules: Mapping[str, str]) -> dict[str, Key]:
    """The weights of these modules: the model's names of modules by the file's.

    Other keys are left out.
    """
    renamed = {_renamed(key, modules): Key(key) for key in keys}
    return {name: key for name, key in renamed.items() if name is not None}


def _renamed(key: str, modules: Mapping[str, str]) -> str | None:
    """The key with the innermost module that is known replaced."""
    module, rest = key, ""
    while module:
        if module in modules:
            return modules[module] + rest
        module, _, last = module.rpartition(".")
        rest = f".{last}{rest}"
    return None


def same_names(keys: Iterable[str]) -> dict[str, Key]:
    """The weights of a file whose keys are the model's names."""
    return {key: Key(key) for key in keys}


def names_after(prefix: str, keys: Iterable[str], read: Reading) -> dict[str, Key]:
    """The weights of a model whose keys have a prefix; `read` takes them without it."""
    names = read({key.removeprefix(prefix) for key in keys if key.startswith(prefix)})
    return {name: replace(key, key=prefix + key.key) for name, key in names.items()}


def count_of(module: str, keys: Collection[str]) -> int:
    """The number of submodules of `module` that are called by a number."""
    begin = f"{module}."
    names = (key.removeprefix(begin).partition(".")[0] for key in keys if key.startswith(begin))
    return len({name for name in names if name.isdecimal()})
