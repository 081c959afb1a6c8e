"""Stable Diffusion 1.5 at full size, within twelve GiB of memory: minutes, and 8 GB of disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdrt.bundle import Bundle

pytestmark = [pytest.mark.export, pytest.mark.full]

PROGRAM = """
import resource, sys
from pathlib import Path
from sdrt_export.exporting import export_checkpoint
export_checkpoint(sys.argv[1], sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
MAX_GIB = 12


def test_sd15_exports_in_twelve_gib(tmp_path: Path) -> None:
    from sdrt_export.synthetic import make_checkpoint

    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(checkpoint), str(tmp_path / "bundle")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) / 2**20 < MAX_GIB  # KiB on Linux

    bundle = Bundle.open(tmp_path / "bundle")
    unet = bundle.component("unet")
    assert sum(file.size for file in unet.files) > 3.4e9
    for component in bundle.manifest.components:
        assert component.parity is not None
        assert component.parity.psnr > 100
