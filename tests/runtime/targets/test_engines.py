"""The target that runs a bundle, its files, and that it opens."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sdrt.bundle.folder import Bundle
from sdrt.errors import BundleError
from sdrt.targets.engines import open_engine
from sdrt.targets.resolving import resolve
from sdrt_engines import Refusal, Target, TargetError
from support.backends import opening, skip_unless_it_opens
from support.bundle_folder import write_bundle

LATENTS = np.arange(16, dtype=np.float32).reshape(1, 4, 2, 2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_a_component_opens_as_an_engine(root: Path) -> None:
    with open_engine(Bundle.open(str(root)), "unet", "cpu") as unet:
        assert unet.name == "unet"
        np.testing.assert_array_equal(unet.run({"sample": LATENTS})["out_sample"], LATENTS)


def test_an_explicit_target_that_does_not_open_is_an_error(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # as where it is not installed
    with pytest.raises(TargetError, match="openvino is not installed: pip install"):
        open_engine(Bundle.open(root), "unet", "openvino")


@pytest.mark.parametrize("target", ["openvino", "openvino:bf16"])
def test_a_component_opens_on_openvino(root: Path, target: str) -> None:
    skip_unless_it_opens(target)
    with open_engine(Bundle.open(root), "unet", target) as unet:
        np.testing.assert_array_equal(unet.run({"sample": LATENTS})["out_sample"], LATENTS)


BACKENDS = [opening(name) for name in ("tensorrt", "tensorrt-rtx", "cpu")]


def test_auto_passes_over_backends_whose_engines_are_not_in_the_bundle(root: Path) -> None:
    bundle = Bundle.open(root)
    resolution = resolve(bundle, "auto", BACKENDS)
    assert resolution.target == Target("cpu")
    assert resolution.refusals == tuple(
        Refusal(
            Target.parse(name),
            f"'{root}' has no engines for {name}: `sdrt build {root} --target {name}` builds them",
        )
        for name in ("tensorrt", "tensorrt-rtx")
    )
    (root / "engines/tensorrt-rtx").mkdir(parents=True)
    assert resolve(bundle, "auto", BACKENDS).target == Target("tensorrt-rtx")


def test_an_explicit_target_needs_its_engines_too(root: Path) -> None:
    with pytest.raises(
        TargetError, match=r"has no engines for tensorrt-rtx: `sdrt build .* builds"
    ):
        resolve(Bundle.open(root), "tensorrt-rtx:sm89", BACKENDS)


def test_each_opening_verifies(root: Path) -> None:
    bundle = Bundle.open(root)
    open_engine(bundle, "unet").close()
    (root / "unet/model.onnx").write_bytes(b"changed meanwhile")
    with pytest.raises(BundleError, match=r"unet/model\.onnx: got 17 bytes"):
        open_engine(bundle, "unet")


def test_a_symlink_inside_the_bundle_is_fine(root: Path) -> None:
    file = root / "unet/model.onnx"
    file.rename(root / "shared")
    file.symlink_to(root / "shared")
    open_engine(Bundle.open(root), "unet").close()


def test_a_bundle_may_be_reached_through_a_symlink(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    open_engine(Bundle.open(link), "unet").close()
