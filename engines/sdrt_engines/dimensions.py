"""Dimensions that follow from others: `8*height`, `height/8`, `ceil(height/2)`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sdrt_engines.errors import TensorError
from sdrt_engines.tensor import TensorSpec

_COMPUTED = re.compile(
    r"(?P<times>[1-9]\d*)\*(?P<multiplied>\w+)"
    r"|(?P<divided>\w+)/(?P<divisor>[1-9]\d*)"
    r"|ceil\((?P<rounded>\w+)/(?P<step>[1-9]\d*)\)"
)


def size_of(dim: int | str, sizes: Mapping[str, int]) -> int | None:
    """The value of a dimension for the symbolic `sizes`; None if it does not follow from them, or a
    division leaves a remainder.

    >>> [size_of(dim, {"h": 9}) for dim in (4, "h", "8*h", "h/3", "ceil(h/2)", "w")]
    [4, 9, 72, 3, 5, None]
    """
    if isinstance(dim, int) or dim in sizes:
        return dim if isinstance(dim, int) else sizes[dim]
    found = _COMPUTED.fullmatch(dim)
    if found is None:
        return None
    size = sizes.get(found["multiplied"] or found["divided"] or found["rounded"])
    if size is None:
        return None
    if found["times"]:
        return size * int(found["times"])
    if found["rounded"]:
        return -(-size // int(found["step"]))
    whole, rest = divmod(size, int(found["divisor"]))
    return None if rest else whole


def shape_at(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a tensor for the symbolic `sizes`.

    TensorError if it does not follow from them.
    """
    shape = []
    for dim in spec.shape:
        size = size_of(dim, sizes)
        if size is None:
            known = ", ".join(f"{name} {value}" for name, value in sizes.items()) or "nothing"
            raise TensorError(
                f"tensor '{spec.name}': the size of '{dim}' does not follow from {known}: give it"
            )
        shape.append(size)
    return tuple(shape)
