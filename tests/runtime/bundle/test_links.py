"""Bundles of links: the Hub's cache stores files in `blobs/` and links to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sdrt.bundle.folder import Bundle
from sdrt.errors import BundleError
from sdrt.files.cache import cache_folder
from sdrt.pipeline import Pipeline
from sdrt.targets.engines import open_engine
from sdrt_engines import EngineError
from support.bundle_folder import write_onnx_folder
from support.hub_cache import hub_cache
from support.toy_bundle import write_toy_bundle


@pytest.mark.parametrize(
    "target", ["cpu", pytest.param("openvino", marks=pytest.mark.needs("openvino"))]
)
def test_a_bundle_in_the_hubs_cache_generates_the_same_image(target: str, tmp_path: Path) -> None:
    source = write_toy_bundle(tmp_path / "bundle")
    snapshot = hub_cache(source, tmp_path / "hub")
    before = sorted(snapshot.rglob("*"))
    images = []
    for root in (source, snapshot):
        with Pipeline.open(root, target, num_threads=1) as pipeline:
            images.append(pipeline("red", seed=1, num_inference_steps=1).images[0])
    assert sorted(snapshot.rglob("*")) == before
    assert not any((cache_folder() / "links").iterdir())
    np.testing.assert_array_equal(np.asarray(images[0]), np.asarray(images[1]))

    blob = (snapshot / "unet/model.onnx_data").resolve()
    blob.write_bytes(bytes(reversed(blob.read_bytes())))
    with (
        Pipeline.open(snapshot, target, num_threads=1) as pipeline,
        pytest.raises(BundleError, match="the file has changed"),
    ):
        pipeline("red", seed=1, num_inference_steps=1)


def test_a_folder_without_hashes_opens_from_the_hubs_cache(tmp_path: Path) -> None:
    snapshot = hub_cache(write_onnx_folder(tmp_path / "folder"), tmp_path / "hub")
    bundle = Bundle.open(snapshot)
    assert bundle.scheduler_config["_class_name"] == "DDIMScheduler"
    assert bundle.tokenizer_folder() == snapshot / "tokenizer"


@pytest.mark.parametrize(
    "path",
    [
        *("model_index.json", "unet/config.json", "unet/model.onnx"),
        *("tokenizer/vocab.json", "scheduler/scheduler_config.json"),
    ],
)
def test_a_folder_without_hashes_may_not_link_elsewhere(tmp_path: Path, path: str) -> None:
    snapshot = hub_cache(write_onnx_folder(tmp_path / "folder"), tmp_path / "hub")
    link, outside = snapshot / path, tmp_path / "outside"
    outside.write_bytes(link.read_bytes())
    link.unlink()
    link.symlink_to(outside)
    with pytest.raises(BundleError, match=f"{path}: leads out of the folder, to {outside}: put"):
        use_all(Bundle.open(snapshot))


def use_all(bundle: Bundle) -> None:
    _ = bundle.scheduler_config
    bundle.tokenizer_folder()


@pytest.mark.needs("openvino")
def test_without_a_cache_folder_on_its_disk_the_way_out_is_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = hub_cache(write_toy_bundle(tmp_path / "bundle"), tmp_path / "hub")
    (tmp_path / "file").touch()
    monkeypatch.setenv("SDRT_CACHE", str(tmp_path / "file"))  # a folder cannot be made there
    with pytest.raises(EngineError, match=r"does not follow the link .*copy the folder \(cp -rL\)"):
        open_engine(Bundle.open(snapshot), "unet", "openvino")
