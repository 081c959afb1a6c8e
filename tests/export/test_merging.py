"""Exports with LoRAs: what is written, recorded and shown, and that nothing is applied by half."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from checkpoints import tiny_checkpoint as write_tiny_checkpoint
from sdrt.bundle.folder import Bundle
from sdrt.command_line.main import main
from sdrt.errors import FileError
from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.checkpoints.loras import Loras, loras_from_sources
from sdrt_export.checkpoints.notes import notes_on_loras
from sdrt_export.component import export_part
from sdrt_export.errors import CheckpointError
from sdrt_export.exporting import export_checkpoint
from sdrt_export.networks.loading import Part, parts_from_checkpoint, parts_with_loras
from sdrt_export.options import WeightStorage
from support.lora_files import Layer, kohya_xl, layers_for, write_lora

pytestmark = pytest.mark.export


def parts_of(checkpoint: Path, loras: Loras = ()) -> dict[str, Part]:
    parts = parts_from_checkpoint(checkpoint_from_source(checkpoint))
    return {part.name: part for part in parts_with_loras(parts, loras_from_sources(loras))}


def layers_of(checkpoint: Path, *ends: str) -> list[Layer]:
    """A LoRA of the layers of UNet and text encoder with such ends of their names."""
    return [
        layer
        for part, read in parts_of(checkpoint).items()
        if part in ("unet", "text_encoder")
        for layer in layers_for(
            part,
            {name: tuple(shape) for name, shape in read.shapes().items()},
            [
                name.removesuffix(".weight")
                for name in read.shapes()
                if name.endswith(tuple(f"{end}.weight" for end in ends))
            ],
        )
    ]


@pytest.fixture(scope="module")
def style(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("loras") / "my style.safetensors"
    return write_lora(path, layers_of(checkpoint, "attn1.to_q", "conv1", "q_proj"))


@pytest.fixture(scope="module")
def merged(checkpoint: Path, style: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a LoRA of both models, by the command line."""
    bundle = tmp_path_factory.mktemp("merged") / "bundle"
    assert main(["export", str(checkpoint), "--lora", f"{style}:-0.5", "-o", str(bundle)]) == 0
    return bundle


def test_ranks_and_alphas_that_differ(checkpoint: Path, style: Path) -> None:
    """The weights of torch and of the files are the formula's; others are as they were."""
    plain, parts = parts_of(checkpoint), parts_of(checkpoint, [(style, 0.8)])
    layers = layers_of(checkpoint, "attn1.to_q", "conv1", "q_proj")
    assert {(layer.rank, layer.alpha) for layer in layers} >= {(2, 1.0), (3, None), (4, 6.0)}
    added = {(layer.part, f"{layer.module}.weight"): 0.8 * layer.added() for layer in layers}
    for part in ("unet", "text_encoder"):
        weights, before = parts[part].weights(), plain[part].weights()
        running = parts[part].networks()[0].model.state_dict()
        for name, weight in before.items():
            expected = weight.numpy() + added.pop((part, name), 0)
            np.testing.assert_allclose(weights[name].numpy(), expected, rtol=1e-5, atol=1e-6)
            assert torch.equal(weights[name], running[name])
    assert not added


def test_a_part_with_loras_goes_to_another_process(checkpoint: Path, style: Path) -> None:
    part = parts_of(checkpoint, [style])["unet"]
    weights = pickle.loads(pickle.dumps(part)).weights()
    assert all(torch.equal(weight, weights[name]) for name, weight in part.weights().items())


def test_scale_zero_and_back(checkpoint: Path, style: Path) -> None:
    plain = parts_of(checkpoint)["unet"].weights()
    zero = parts_of(checkpoint, [(style, 0.0)])["unet"].weights()
    assert all(torch.equal(weight, zero[name]) for name, weight in plain.items())
    back = parts_of(checkpoint, [(style, 2), (style, -2)])["unet"].weights()
    assert all(torch.allclose(weight, back[name], atol=1e-6) for name, weight in plain.items())


def test_what_the_bundle_records(
    merged: Path, style: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Bundle.open(merged)
    (record,) = opened.manifest.merged
    assert (record.kind, record.name, record.scale) == ("lora", "my style", -0.5)
    assert all(part.parity and part.parity.psnr > 100 for part in opened.manifest.components)
    assert main(["inspect", str(merged)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f" lora my style, scale -0.5, sha256 {record.sha256[:12]}… " in shown


def test_what_images_record(
    merged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.png"
    command = ["run", str(merged), "a circle", "-o", str(out), "--steps", "1", "--seed", "1"]
    assert main([*command, "-q"]) == 0
    with Image.open(out) as image:
        (record,) = Bundle.open(merged).manifest.merged
        assert f'Lora hashes: "my style: {record.short_hash}"' in image.info["parameters"]
    again = ["run", "--from-image", str(out), "-o", str(tmp_path / "b.png")]
    assert main(again) == 0
    assert "note" not in capsys.readouterr().err
    with Image.open(out) as first, Image.open(tmp_path / "b.png") as second:
        assert (np.asarray(first) == np.asarray(second)).all()


def test_images_of_other_loras(
    merged: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As A1111 records them: in tags of the prompt, and by their hashes."""
    (record,) = Bundle.open(merged).manifest.merged
    text = (
        f"a circle <lora:{record.name}:{record.scale}>\nSteps: 1, Sampler: Euler, Seed: 1, "
        f'Size: 32x32, Lora hashes: "{record.name}: {record.short_hash}"'
    )
    info = PngInfo()
    info.add_text("parameters", text)
    path = tmp_path / "a.png"
    Image.new("RGB", (32, 32)).save(path, pnginfo=info)
    again = ["--from-image", str(path), "-o", str(tmp_path / "b.png")]
    assert main(["run", str(merged), *again]) == 0
    assert "note" not in capsys.readouterr().err
    assert main(["run", str(bundle), *again]) == 0
    notes = capsys.readouterr().err
    assert f"a.png: the original was made with the LoRA '{record.name}', the bundle was" in notes
    assert f"prompt: <lora:{record.name}:{record.scale}> is left out: " in notes


def test_merged_weights_are_rounded_only_if_asked(tmp_path: Path, style: Path) -> None:
    half = write_tiny_checkpoint("classic", tmp_path / "half", torch.float16)

    def precision(storage: WeightStorage, loras: Loras) -> str:
        folder = tmp_path / f"{storage}{len(loras)}"
        folder.mkdir()
        part = parts_of(half, loras)["text_encoder"]
        (component,) = export_part(part, folder, storage, report=print)
        return component.precision

    assert precision("auto", []) == "float16"
    assert precision("auto", [style]) == "float32"
    assert precision("fp16", [style]) == "float16"


@pytest.mark.parametrize(
    ("dtype", "scale", "storage", "noted"),
    [
        (torch.float16, 1.0, "auto", True),
        (torch.float16, 1.0, "fp16", False),
        (torch.float16, 1.0, "fp32", False),  # as asked
        (torch.float16, 0.0, "auto", False),  # which changes nothing
        (torch.float32, 1.0, "auto", False),
    ],
)
def test_twice_the_size_is_noted(
    dtype: torch.dtype,
    scale: float,
    storage: WeightStorage,
    noted: bool,
    style: Path,
    tmp_path: Path,
) -> None:
    checkpoint = checkpoint_from_source(write_tiny_checkpoint("classic", tmp_path / "model", dtype))
    with_lora = replace(checkpoint, loras=loras_from_sources([(style, scale)]))
    notes = [note.message for note in notes_on_loras(with_lora, storage)]
    assert (
        notes
        == [
            "weights: text_encoder and unet in float16 will be stored in float32, twice the size, "
            "because merged weights are not float16 numbers: --weights fp16 rounds them"
        ]
        * noted
    )
    assert list(notes_on_loras(checkpoint, storage)) == []


def test_nothing_is_written_for_a_lora_that_does_not_fit(
    checkpoint: Path, style: Path, tmp_path: Path
) -> None:
    layers = layers_of(checkpoint, "attn1.to_q")
    other = write_lora(tmp_path / "b.safetensors", [*layers, *_for_the_second(layers)], kohya_xl)
    with pytest.raises(FileError, match="changes text_encoder_2, which the checkpoint does not"):
        export_checkpoint(checkpoint, tmp_path / "bundle", loras=[style, other])
    assert not (tmp_path / "bundle").exists()


def _for_the_second(layers: list[Layer]) -> list[Layer]:
    return [Layer("text_encoder_2", each.module, each.down, each.up) for each in layers]


def test_a_strength_beyond_float32(checkpoint: Path, style: Path) -> None:
    weights = parts_of(checkpoint, [(style, 1e39)])["unet"].weights()
    with pytest.raises(CheckpointError, match=r"the unet of .*: .* infinite with the LoRAs: scale"):
        list(weights.values())


def test_a_lora_of_sdxl(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("xl")
    shapes = parts_of(checkpoint)["text_encoder_2"].shapes()
    names = [name.removesuffix(".weight") for name in shapes if name.endswith("fc1.weight")]
    layers = layers_for("text_encoder_2", {n: tuple(s) for n, s in shapes.items()}, names)
    style = write_lora(tmp_path / "a.safetensors", layers, kohya_xl)
    plain, parts = parts_of(checkpoint), parts_of(checkpoint, [style])
    assert parts["unet"] == plain["unet"]
    before, after = plain["text_encoder_2"].weights(), parts["text_encoder_2"].weights()
    for layer in layers:
        name = f"{layer.module}.weight"
        expected = before[name].numpy() + layer.added()
        np.testing.assert_allclose(after[name].numpy(), expected, rtol=1e-5, atol=1e-6)
