"""Stable Diffusion 1.5 and a ControlNet at full size, for three generations of RTX cards: minutes,
16 GB of disk.
"""

from pathlib import Path

import pytest

from sdrt.bundle.folder import Bundle
from sdrt.targets.plan_record import read_record
from support.built_bundle import build_for

pytestmark = pytest.mark.full


def test_sd15_builds_without_a_gpu(tmp_path: Path) -> None:
    from sdrt_export.exporting import export_checkpoint
    from sdrt_export.synthetic import make_checkpoint, make_controlnet

    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    make_controlnet(checkpoint / "controlnet_edges")
    bundle = Bundle.open(export_checkpoint(checkpoint, tmp_path / "bundle"))
    plans = build_for("tensorrt-rtx:sm86,sm89,sm120", bundle.root)
    assert len(plans) == len(bundle.manifest.components) == 6
    for plan in plans:
        record = read_record(plan.with_suffix(".json"))
        assert record.ingredients.architectures == ("sm120", "sm86", "sm89")
        assert record.psnr is not None
        assert record.psnr >= 40
        component = bundle.component(record.ingredients.component)
        stored = sum(file.size for file in component.files)
        halves = stored / 2 if component.precision == "float32" else stored
        assert 0.9 * halves < record.plan.size < halves + 200e6
        peak = record.build["peak_memory"]
        assert peak is not None
        assert peak < 10 * 2**30
