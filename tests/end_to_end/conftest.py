"""Fixtures for the tests of bad input."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.toy_bundle import write_toy_bundle


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, next to a bundle."""
    monkeypatch.chdir(tmp_path)
    write_toy_bundle(tmp_path / "bundle")
    return tmp_path
