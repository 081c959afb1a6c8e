"""Stable Diffusion 1.5 and a ControlNet at full size, within twelve GiB of memory.

Takes minutes, and 12 GB of disk.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdrt.bundle.folder import Bundle

pytestmark = pytest.mark.full

PROGRAM = """
import resource, sys
from pathlib import Path
from sdrt_export.exporting import export_checkpoint
export_checkpoint(sys.argv[1], sys.argv[2], controlnets={"edges": sys.argv[3]})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
MAX_GIB = 12


def test_sd15_exports_in_twelve_gib(tmp_path: Path) -> None:
    from sdrt_export.synthetic import make_checkpoint, make_controlnet

    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    controlnet = make_controlnet(tmp_path / "controlnet")
    arguments = [checkpoint, tmp_path / "bundle", controlnet]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) / 2**20 < MAX_GIB  # KiB on Linux

    bundle = Bundle.open(tmp_path / "bundle")
    unet = bundle.component("unet")
    controlnet_edges = bundle.component("controlnet_edges")
    for component, num_weights in ((unet, 859_520_964), (controlnet_edges, 361_279_120)):
        assert component.precision == "float16"  # in which the checkpoint is stored
        stored = sum(file.size for file in component.files)
        assert stored == pytest.approx(2 * num_weights, rel=0.01)
    assert unet.files[1] == bundle.component("unet_controlled").files[1]
    for component in bundle.manifest.components:
        assert component.parity is not None
        assert component.parity.psnr > 100
