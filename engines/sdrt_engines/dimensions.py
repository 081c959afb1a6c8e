"""Dimensions that follow from others: `8*height`, `height/8`, `ceil(height/2)`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sdrt_engines.errors import TensorError
from sdrt_engines.tensor import TensorSpec

_DIMENSION = re.compile(
    r"(?:(?P<times>[1-9]\d*)\*)?(?P<name>[A-Za-z_]\w*)"
    r"|(?P<divided>[A-Za-z_]\w*)/(?P<by>[1-9]\d*)"
    r"|ceil\((?P<rounded>[A-Za-z_]\w*)/(?P<up>[1-9]\d*)\)"
)


def shape_at(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a tensor when the names in it have these sizes.

    TensorError for a name that has none, and for a division that leaves a rest.
    """
    return tuple(_size(spec, dim, sizes) if isinstance(dim, str) else dim for dim in spec.shape)


def _size(spec: TensorSpec, dim: str, sizes: Mapping[str, int]) -> int:
    if dim in sizes:
        return sizes[dim]
    match = _DIMENSION.fullmatch(dim)
    name = str(match and (match["name"] or match["divided"] or match["rounded"]))
    if not match or name not in sizes:
        raise TensorError(
            f"tensor '{spec.name}': the size of '{dim}' does not follow from "
            f"{', '.join(sizes) or 'nothing'}: give it"
        )
    size = sizes[name]
    if match["rounded"]:
        return -(-size // int(match["up"]))
    if match["divided"]:
        if size % int(match["by"]):
            raise TensorError(
                f"tensor '{spec.name}': {name} is {size}, expected a multiple of {match['by']}"
            )
        return size // int(match["by"])
    return size * int(match["times"] or 1)
