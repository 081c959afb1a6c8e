"""Bad checkpoints: each is reported in one line with a remedy, before any work."""

import errno
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dist import NO_CHECKPOINT
from sdrt_export.checkpoints import checkpoint as checkpoint_module
from sdrt_export.checkpoints.checkpoint import (
    DEMO_FOLDER,
    checkpoint_from_source,
    weights_from_names,
)
from sdrt_export.checkpoints.parts import STABLE_DIFFUSION, TEXT_ENCODER, UNET, VAE, PartKind
from sdrt_export.checkpoints.weights_files import Weights
from sdrt_export.errors import CheckpointError, unreadable_as_checkpoint_error

pytestmark = pytest.mark.export

UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A good checkpoint to break."""
    return shutil.copytree(checkpoint, tmp_path / "checkpoint")


def refusal(source: object) -> str:
    """The message for a checkpoint that cannot be exported, always a single line."""
    with pytest.raises(CheckpointError) as caught:
        checkpoint_from_source(str(source))
    message = str(caught.value)
    assert "\n" not in message
    assert str(source) in message
    return message


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_good_one_is_read(folder: Path) -> None:
    checkpoint = checkpoint_from_source(folder)
    assert checkpoint.folder == folder
    assert checkpoint.source == str(folder)
    assert checkpoint.family.name == "stable-diffusion-1"
    assert checkpoint.weights[UNET] == Weights(None, (UNET_WEIGHTS,))


@pytest.mark.parametrize(
    ("removed", "missing"),
    [
        ("unet", f"unet/config.json, {UNET_WEIGHTS} missing"),
        ("vae", "vae/config.json, vae/diffusion_pytorch_model.safetensors missing"),
        ("text_encoder", "text_encoder/config.json, text_encoder/model.safetensors missing"),
        ("tokenizer", "tokenizer/vocab.json, tokenizer/merges.txt missing"),
        ("scheduler", "scheduler/scheduler_config.json missing"),
        ("model_index.json", "model_index.json missing"),
        (UNET_WEIGHTS, f"{UNET_WEIGHTS} missing"),
    ],
)
def test_a_missing_part_is_reported_with_those_found(
    removed: str, missing: str, folder: Path
) -> None:
    path = folder / removed
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    message = refusal(folder)
    assert f"not a complete checkpoint: {missing}, found " in message
    found = re.search("found (.*): expected", message)
    assert found
    assert set(found[1].split(", ")) == {path.name for path in folder.iterdir()}


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    assert "found nothing: expected a folder that diffusers' save_pretrained wrote" in refusal(
        tmp_path
    )


@pytest.mark.parametrize("source", ["no_such_folder", "a/b/c", "../nothing", "owner/na me"])
def test_neither_a_folder_nor_a_hub_id_is_reported(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "expected a diffusers folder, a safetensors file, a Hub id such as" in refusal(source)


def test_pickled_weights_are_refused_with_the_way_to_convert_them(folder: Path) -> None:
    (folder / UNET_WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.bin")
    message = refusal(folder)
    assert "has pickled weights (unet/diffusion_pytorch_model.bin), which run code" in message
    assert "').save_pretrained('converted')" in message and "use_safetensors" not in message


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("model.ckpt", "is a pickle, which runs code when it is loaded, so sdrt refuses it"),
        ("model.safetensors", "is not a safetensors file"),
    ],
)
def test_another_kind_of_file_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"weights")
    assert reason in refusal(tmp_path / name)


def test_the_conversion_is_python(folder: Path) -> None:
    """As far as that is known without running it."""
    (folder / UNET_WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.bin")
    program = re.search('python -c "(.*)", and export', refusal(folder))
    assert program
    compile(program[1], "advice", "exec")


def test_an_exported_bundle_is_reported(bundle: Path) -> None:
    assert "is exported already: `sdrt run" in refusal(bundle)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"\xff" * 8 + b"{}"])
def test_weights_that_are_not_safetensors_are_reported(content: bytes, folder: Path) -> None:
    (folder / UNET_WEIGHTS).write_bytes(content)
    assert f"{folder / UNET_WEIGHTS}: not a complete safetensors file" in refusal(folder)


def test_weights_that_are_cut_short_are_reported(folder: Path) -> None:
    whole = (folder / UNET_WEIGHTS).read_bytes()
    (folder / UNET_WEIGHTS).write_bytes(whole[:-1])
    assert "not a complete safetensors file" in refusal(folder)


@pytest.mark.parametrize(
    "name", ["model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json"]
)
def test_a_broken_configuration_is_reported(name: str, folder: Path) -> None:
    (folder / name).write_text('{"_class_name": ')
    assert f"{folder / name}: not valid JSON" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "changes", "complaint"),
    [
        (
            "model_index.json",
            {"_class_name": "StableDiffusion3Pipeline"},
            "got 'StableDiffusion3Pipeline', expected a pipeline of Stable Diffusion 1, 2 or XL",
        ),
        ("model_index.json", {"_class_name": "FluxPipeline"}, "got 'FluxPipeline'"),
        (
            "unet/config.json",
            {"_class_name": "UNet3DConditionModel"},
            "its UNet is UNet3DConditionModel, expected UNet2DConditionModel",
        ),
        (
            "unet/config.json",
            {"addition_embed_type": "text_time"},
            "its UNet has addition_embed_type='text_time', which Stable Diffusion 1 and 2 lack",
        ),
        (
            "unet/config.json",
            {"cross_attention_dim": 768},
            "its text encoder gives vectors of 8, its UNet expects 768 (cross_attention_dim)",
        ),
        (
            "vae/config.json",
            {"_class_name": "AutoencoderTiny"},
            "its VAE is AutoencoderTiny, expected AutoencoderKL",
        ),
        (
            "vae/config.json",
            {"latent_channels": 16},
            "its VAE has 16 latent channels, its UNet has 4",
        ),
        (
            "text_encoder/config.json",
            {"model_type": "t5"},
            "its text encoder is t5, expected clip_text_model",
        ),
        (
            "text_encoder/config.json",
            {"max_position_embeddings": 64},
            "its tokenizer produces 77 tokens, its text encoder expects 64",
        ),
        (
            "text_encoder/config.json",
            {"vocab_size": 300},
            "tokens, its text encoder 300 (vocab_size)",
        ),
    ],
)
def test_parts_that_do_not_fit_are_reported(
    name: str, changes: dict[str, Any], complaint: str, folder: Path
) -> None:
    edit(folder / name, **changes)
    message = refusal(folder)
    assert message.startswith(f"'{folder}' cannot be exported: ")
    assert complaint in message


@pytest.mark.parametrize(
    ("name", "size", "value", "complaint"),
    [
        ("vae", "latent_channels", 10**40, "got 1000"),
        ("vae", "latent_channels", "4", 'got "4", expected an integer'),
        ("vae", "block_out_channels", [4, -8], "got -8, expected a whole number from 1 to 131072"),
        ("vae", "block_out_channels", [], "got [], expected whole numbers"),
        ("unet", "in_channels", 0, "got 0, expected a whole number from 1 to 131072"),
        ("unet", "layers_per_block", -3, "got -3, expected a whole number"),
        ("text_encoder", "num_hidden_layers", 1.5, "got 1.5, expected an integer"),
    ],
)
def test_an_absurd_size_is_reported(
    name: str, size: str, value: object, complaint: str, folder: Path
) -> None:
    path = folder / name / "config.json"
    edit(path, **{size: value})
    message = refusal(folder)
    assert message.startswith(f"'{folder}' cannot be exported: {path}: {size}: {complaint}")
    assert len(message) < 400


def test_a_unet_that_rounds_sizes_down_is_reported(folder: Path) -> None:
    edit(folder / "unet" / "config.json", downsample_padding=0)
    assert "its UNet has downsample_padding=0, expected 1" in refusal(folder)


def test_a_family_of_version_2_is_recognised_by_its_width(folder: Path) -> None:
    edit(folder / "unet" / "config.json", cross_attention_dim=1024)
    edit(folder / "text_encoder" / "config.json", hidden_size=1024)
    assert checkpoint_from_source(folder).family.name == "stable-diffusion-2"


FILES = [
    "model_index.json",
    *(f"{model}/config.json" for model in ("unet", "vae", "text_encoder")),
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer.json",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.fp16.safetensors",
    *(f"{UNET_WEIGHTS.removesuffix('.safetensors')}-0000{i}-of-00002.safetensors" for i in (1, 2)),
    UNET_WEIGHTS + ".index.json",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
]


@pytest.mark.parametrize(
    ("part", "weights"),
    [
        (VAE, Weights(None, ("vae/diffusion_pytorch_model.safetensors",))),
        (TEXT_ENCODER, Weights("fp16", ("text_encoder/model.fp16.safetensors",))),
        (UNET, Weights(None, (FILES[-4], FILES[-3]), FILES[-2])),
    ],
)
def test_weights_whole_sharded_or_in_halves(part: PartKind, weights: Weights) -> None:
    assert weights_from_names(FILES, "source", STABLE_DIFFUSION)[part] == weights


def test_a_folder_that_this_user_may_not_read_is_named(folder: Path) -> None:
    """Root may read everything, so the error is raised here."""
    with pytest.raises(CheckpointError) as caught, unreadable_as_checkpoint_error():
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))
    assert str(caught.value) == f"'{folder}' cannot be read: Permission denied"


def test_the_demo_is_in_the_repository() -> None:
    assert checkpoint_from_source("demo").folder == DEMO_FOLDER


def test_without_the_demo_the_commands_that_bring_it_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel has no checkpoint."""
    monkeypatch.setattr(checkpoint_module, "DEMO_FOLDER", tmp_path / "demo_checkpoint")
    message = refusal("demo")
    assert f"sdrt: {message}".startswith(NO_CHECKPOINT)  # as `make dist` expects it
    assert "`pip install -e '.[export]'`" in message
    assert "`python -m sdrt_export.demo.train WORK CHECKPOINT`" in message


def test_bad_input_is_reported_without_torch(tmp_path: Path) -> None:
    """Importing torch takes seconds; a mistyped path should not."""
    program = (
        "import sys\n"
        "from sdrt.command_line.main import main\n"
        "main(['export', 'no_such_folder', '-o', 'bundle'])\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'onnx'} & set(sys.modules)))"
    )
    path = f"import sys; sys.path[:0] = {sys.path!r}\n"
    result = subprocess.run(
        [sys.executable, "-c", path + program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert "'no_such_folder'" in result.stderr
    assert result.stdout == "[]\n"
