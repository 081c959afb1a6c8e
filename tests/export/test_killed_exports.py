"""Exports that are killed at any step: the old or the new bundle, and nothing hidden later."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sdrt.bundle.file_records import verify_file
from sdrt.bundle.folder import Bundle
from sdrt.bundle.writing import only_writer
from sdrt_export.adding import add_to_bundle
from sdrt_export.exporting import export_checkpoint
from support.kill_points import killed_at_each_step
from support.weights_files import write_weights

pytestmark = pytest.mark.export

RECIPE = "classic"


@pytest.fixture
def folder(tiny_bundle: Callable[[str], Path], tmp_path: Path) -> Path:
    """A folder with a bundle `b` that has two ControlNets."""
    shutil.copytree(tiny_bundle(RECIPE), tmp_path / "folder" / "b")
    return tmp_path / "folder"


def content(folder: Path) -> dict[str, bytes | None]:
    paths = folder.rglob("*")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in paths
    }


def assert_valid(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    for record in (*manifest.files, *(file for each in manifest.components for file in each.files)):
        verify_file(bundle, record)


def assert_old_or_new(folder: Path, copies: Path, write: Callable[[], object]) -> None:
    """Asserts that it is the one or the other whenever the writer is killed."""
    old = content(folder)
    with killed_at_each_step(folder, copies) as killed:
        write()
    new = content(folder)
    assert new != old
    found = []
    for step, copy in killed:
        assert_valid(copy / "b")
        with only_writer(copy / "b", lambda: pytest.fail("a killed writer holds nothing")):
            pass
        assert content(copy) in (old, new), step
        found.append(content(copy) == new)
    assert found == sorted(found)
    assert set(found) == {False, True}


def test_a_replacing_export(
    folder: Path, tmp_path: Path, tiny_checkpoint: Callable[[str], Path]
) -> None:
    checkpoint = tiny_checkpoint(RECIPE)
    assert_old_or_new(
        folder, tmp_path, lambda: export_checkpoint(checkpoint, folder / "b", replace=True)
    )


def test_embeddings_into_a_bundle(folder: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((2, 8), np.float32)
    bad = write_weights(tmp_path / "bad.safetensors", {"emb_params": values})
    assert_old_or_new(folder, tmp_path, lambda: add_to_bundle(folder / "b", embeddings=[bad]))


@pytest.mark.parametrize("name", ["more", "edges"])
def test_an_export_into_a_bundle(
    name: str, folder: Path, tmp_path: Path, tiny_controlnets: Callable[[str], dict[str, Path]]
) -> None:
    sources = {name: tiny_controlnets(RECIPE)["depth"]}
    assert_old_or_new(
        folder, tmp_path, lambda: add_to_bundle(folder / "b", controlnets=sources, replace=True)
    )
