"""Backends that open, or do not, on any machine; and a skip for tests that need one that opens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdrt_engines import Backend, Target, backend_of


def opening(name: str) -> Backend:
    """The backend of this name, which opens."""
    return replace(backend_of(Target(name)), refusal=lambda target: None)


def refusing(name: str, reason: str) -> Backend:
    """The backend of this name, which does not open."""
    return replace(backend_of(Target(name)), refusal=lambda target: reason)


def skip_unless_it_opens(text: str) -> None:
    """Skips the test if the target does not open on this machine."""
    target = Target.parse(text)
    if reason := backend_of(target).refusal(target):
        pytest.skip(reason)
