"""Ranges of the numbers that a caller may give."""

from __future__ import annotations

from dataclasses import dataclass

from sdrt.errors import RequestError


@dataclass(frozen=True)
class Between:
    """The numbers from `low` to `high`, both included, and never NaN or True, which is an int."""

    low: float
    high: float
    whole: bool = False

    def check(self, name: str, value: object) -> None:
        """Raises `RequestError` for any other value."""
        if value not in self:
            raise RequestError(f"{name}: got {value!r}, expected {self}")

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and (isinstance(value, int) or not self.whole)

    def __str__(self) -> str:
        if self.whole:
            return f"a whole number from {self.low} to {self.high}"
        return f"a number from {self.low:g} to {self.high:g}"
