"""Files that engines map into memory: read-only, replaced by renaming, refused if changed."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from sdrt.bundle.folder import Bundle
from sdrt.errors import BundleError
from sdrt.targets.engines import open_engine
from sdrt.targets.runnable import runnable
from sdrt_engines import Target
from sdrt_engines.prepared_onnx import preparer
from support.built_bundle import build_for
from support.toy_bundle import write_toy_bundle

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="Windows does not overwrite mapped files"),
    pytest.mark.skipif(preparer() is None, reason="this system does not report its CPU's features"),
]
FEEDS = {
    "sample": np.ones((2, 4, 8, 8), np.float32),
    "timestep": np.ones(2, np.float32),
    "encoder_hidden_states": np.ones((2, 77, 4), np.float32),
}


def built(root: Path) -> list[Path]:
    """The files that the target cpu maps of the UNet."""
    build_for("cpu", root, components=("unet",))
    found = runnable(root, Bundle.open(root).component("unet"), Target("cpu"))
    assert found.prepared
    return [root / record.path for record in found.files]


def test_files_of_a_build_are_read_only_and_replaced_under_a_running_engine(tmp_path: Path) -> None:
    root = write_toy_bundle(tmp_path / "bundle")
    files = built(root)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o444}
    with ExitStack() as stack:
        engine = stack.enter_context(open_engine(Bundle.open(root), "unet", "cpu"))
        expected = engine.run(FEEDS)["out_sample"]
        # Open, because the inode of a file that is gone may be given to its successor.
        before = [os.fstat(stack.enter_context(path.open("rb")).fileno()) for path in files]
        files[0].unlink()  # what the next build makes again, with all the rest
        assert built(root) == files
        assert not any(map(os.path.samestat, before, map(os.stat, files)))
        np.testing.assert_array_equal(engine.run(FEEDS)["out_sample"], expected)


@pytest.mark.parametrize(
    "target", ["cpu", pytest.param("openvino", marks=pytest.mark.needs("openvino"))]
)
def test_a_later_open_refuses_a_file_that_was_overwritten(target: str, tmp_path: Path) -> None:
    root = write_toy_bundle(tmp_path / "bundle")
    path = built(root)[-1] if target == "cpu" else root / "unet/model.onnx_data"
    bundle = Bundle.open(root)
    with open_engine(bundle, "unet", target) as engine:
        engine.run(FEEDS)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"{path}: the file has changed: got sha256"):
        open_engine(bundle, "unet", target)
