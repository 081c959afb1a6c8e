"""Builds that are killed at any step: the bundle is valid, and nothing hidden stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdrt.bundle.folder import Bundle
from sdrt.bundle.writing import only_writer
from sdrt.targets.built_graph import prepared_graph_of
from sdrt_engines.prepared_onnx import preparer
from support.built_bundle import build_for
from support.bundle_folder import write_bundle
from support.kill_points import killed_at_each_step

pytestmark = [
    pytest.mark.build,
    pytest.mark.skipif(preparer() is None, reason="this system does not report its CPU's features"),
]

NETWORK = "vae_decoder"


def entries(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def test_a_killed_build_leaves_the_bundle_valid_and_nothing_hidden(tmp_path: Path) -> None:
    root = write_bundle(tmp_path / "folder" / "b")
    before = entries(root)
    with killed_at_each_step(tmp_path / "folder", tmp_path) as killed:
        build_for("cpu", root, components=(NETWORK,))
    built = entries(root)
    assert f"engines/cpu/{NETWORK}/model.onnx" in built
    for step, folder in killed:
        bundle = Bundle.open(folder / "b")
        with only_writer(bundle.root, lambda: pytest.fail("a killed writer holds nothing")):
            pass
        graph = prepared_graph_of(bundle.root, "cpu", bundle.component(NETWORK))
        assert (entries(bundle.root) == built) == (graph is not None), step
        rest = entries(bundle.root) - {"engines", "engines/cpu"}
        assert graph is not None or rest == before, step
        assert [path.name for path in folder.iterdir()] == ["b"], step
