"""The parameters for which a bundle may hold defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdrt.errors import BundleError, did_you_mean, quoted
from sdrt.kinds import Between
from sdrt.parameters import PARAMETERS

RECOMMENDED: Mapping[str, Between] = {
    parameter.name: parameter.kind
    for parameter in PARAMETERS
    if parameter.recommended and isinstance(parameter.kind, Between)
}


def check_recommended(defaults: Mapping[str, Any]) -> None:
    """Raises `BundleError` for a default that no bundle may hold, or that is out of its range."""
    for name, value in defaults.items():
        if name not in RECOMMENDED:
            raise BundleError(f"defaults.{name}: unknown, {did_you_mean(name, RECOMMENDED)}")
        if value not in RECOMMENDED[name]:
            raise BundleError(f"defaults.{name}: got {quoted(value)}, expected {RECOMMENDED[name]}")
