"""Ranges of the numbers that a caller or a bundle may give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdrt.errors import BundleError, RequestError, did_you_mean


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


MAX_SIDE = 8192  # pixels

# What a bundle may recommend, by the names of a request's fields.
RECOMMENDED: Mapping[str, Between] = {
    "height": Between(8, MAX_SIDE, whole=True),
    "width": Between(8, MAX_SIDE, whole=True),
    "num_inference_steps": Between(1, 1000, whole=True),  # as many as the training's timesteps
    "guidance_scale": Between(0, 1000),
}


def check_recommended(defaults: Mapping[str, Any]) -> None:
    """BundleError for a default that no bundle may hold, or that is out of its range."""
    for name, value in defaults.items():
        if name not in RECOMMENDED:
            raise BundleError(f"defaults.{name}: unknown, {did_you_mean(name, RECOMMENDED)}")
        if value not in RECOMMENDED[name]:
            raise BundleError(f"defaults.{name}: got {value!r}, expected {RECOMMENDED[name]}")
