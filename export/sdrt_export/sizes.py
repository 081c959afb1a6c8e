"""The sizes that a configuration names, read before torch takes them at their word."""

from __future__ import annotations

from sdrt.files.json_fields import JsonFields
from sdrt_export.errors import CheckpointError

MAX_SIZE = 1 << 17


def size(fields: JsonFields, name: str, default: int) -> int:
    """A whole number from 1 on. SdrtError where there is something else."""
    return _checked(name, fields.integer(name, default))


def sizes(fields: JsonFields, name: str, default: list[int]) -> list[int]:
    """A list of them, not empty; a single number stands for as many as `default` has."""
    value = fields.values.get(name)
    if value is None:
        return default
    if not isinstance(value, list):
        return [size(fields, name, 1)] * len(default)
    if not value:
        raise CheckpointError(f"{name}: got [], expected whole numbers")
    return [_checked(name, number) for number in value]


def _checked(name: str, number: object) -> int:
    if type(number) is not int or not 1 <= number <= MAX_SIZE:
        raise CheckpointError(
            f"{name}: got {number!r:.40}, expected a whole number from 1 to {MAX_SIZE}"
        )
    return number
