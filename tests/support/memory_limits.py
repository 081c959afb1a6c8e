"""Limits of the memory that a test may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Limit: TypeAlias = Callable[[int], None]  # MiB from now on
