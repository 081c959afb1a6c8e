"""Checkpoints that an exporter refuses before it imports torch: one line each."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.refusals import Capture, refusal

CHECKPOINT = (
    *("model_index.json", "text_encoder/config.json", "text_encoder/model.safetensors"),
    *("unet/config.json", "unet/diffusion_pytorch_model.safetensors"),
    *("vae/config.json", "vae/diffusion_pytorch_model.safetensors"),
    *("scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt"),
)


def a_checkpoint_without_unet(path: Path) -> None:
    shutil.rmtree(path / "unet")
    (path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')


def a_pipeline_of_another_family(path: Path) -> None:
    a_checkpoint_without_unet(path)
    (path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')


def a_pickled_unet(path: Path) -> None:
    weights = path / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))


def a_pickled_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("pickle")


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        (
            "model",
            shutil.rmtree,
            "no checkpoint at 'model': expected a diffusers folder, a safetensors file",
        ),
        ("model", a_checkpoint_without_unet, "'model' is not a complete checkpoint: unet/config"),
        (
            "model",
            a_pipeline_of_another_family,
            "got 'FluxPipeline', expected a pipeline of Stable",
        ),
        ("model", a_pickled_unet, "pickled weights (unet/diffusion_pytorch_model.bin), which run"),
        (
            "model.ckpt",
            a_pickled_file,
            "model.ckpt' is a pickle, which runs code when it is loaded",
        ),
    ],
)
def test_bad_checkpoints(
    name: str, harm: Callable[[Path], None], message: str, folder: Path, capsys: Capture
) -> None:
    for path in CHECKPOINT:
        (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / path).write_text("{}")
    harm(folder / name)
    assert message in refusal(["export", name, "-o", "new/bundle"], folder, capsys)


def test_a_bundle_is_no_checkpoint(folder: Path, capsys: Capture) -> None:
    message = refusal(["export", "bundle", "-o", "new"], folder, capsys)
    assert (
        message == """'bundle' is exported already: `sdrt run bundle "a prompt"` generates images"""
    )


def test_a_target_that_cannot_be_built_is_refused_before_the_checkpoint_is_read(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # as if it were not installed
    export = ["export", "nowhere", "-o", "new", "--target"]
    message = refusal([*export, "tensorrt"], folder, capsys)
    assert message == "tensorrt is not installed: pip install 'sdrt[tensorrt]'"
    assert "no checkpoint at 'nowhere'" in refusal([*export, "openvino"], folder, capsys)
