"""Fixtures for the tests of `sdrt build`: the demo bundle with all its plans, built once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sdrt.bundle.demo import DEMO_FOLDER
from support.built_bundle import TARGET, Built
from support.command import run_sdrt


@pytest.fixture(scope="session")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Code after which neither this process nor one that it starts can import torch."""
    folder = tmp_path_factory.mktemp("without_torch")
    (folder / "torch.py").write_text("raise SystemExit('torch was imported')\n")
    return f"import sys; sys.path.insert(0, {str(folder)!r})\n"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, without_torch: str) -> Built:
    """A copy of the demo bundle with every network built by `sdrt build`: for one to two images of
    64 pixels, on Ada. Copy it before changing it."""
    root = tmp_path_factory.mktemp("built") / "demo"
    shutil.copytree(DEMO_FOLDER, root, ignore=shutil.ignore_patterns("engines"))
    outcome = run_sdrt(
        *("build", root, "--target", TARGET, "--batch", "1..2"),
        folder=root.parent,
        before=without_torch,
    )
    assert outcome.code == 0, outcome.err
    return Built(root, outcome)


@pytest.fixture
def copy(built: Built, tmp_path: Path) -> Path:
    """A built bundle to damage."""
    return Path(shutil.copytree(built.root, tmp_path / "demo"))
