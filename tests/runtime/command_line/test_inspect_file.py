"""`sdrt inspect` of a file of weights."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from sdrt.command_line.main import main
from support.command import run_sdrt
from support.weights_files import Tensor, write_weights

TO_K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
LORA: Mapping[str, Tensor] = {
    f"{TO_K}.lora_down.weight": (4, 768),
    f"{TO_K}.lora_up.weight": (320, 4),
}
UNET: Mapping[str, Tensor] = {
    "model.diffusion_model.input_blocks.0.0.weight": (320, 9, 3, 3),
    "model.diffusion_model.input_blocks.1.0.in_layers.2.weight": (320, 320, 3, 3),
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
}
ENCODER: Mapping[str, Tensor] = {
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (9, 768),
}
VAE: Mapping[str, Tensor] = {
    "first_stage_model.encoder.down.0.block.0.norm1.weight": (128,),
    "first_stage_model.decoder.up.0.block.0.norm1.weight": (128,),
    "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
}
CONTROLNET: Mapping[str, Tensor] = {
    "conv_in.weight": (320, 4, 3, 3),
    "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
}
TINY: Mapping[str, Tensor] = {"1.weight": (64, 4, 3, 3), "3.conv.0.weight": (64, 64, 3, 3)}
MARKS: Mapping[str, Tensor] = {"v_pred": (0,), "model_ema.decay": ()}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "my style.safetensors"


def printed(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, str], str]:
    """The rows of the table, and the line below it."""
    assert main(["inspect", str(path)]) == 0
    rows, _, last = capsys.readouterr().out.rstrip().rpartition("\n\n")
    lines = [line.split("  ", 1) for line in rows.splitlines()]
    return {label: value.strip() for label, value in lines}, last


def test_a_lora(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = {
        "ss_base_model_version": "sd_v1",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "None",
        "ss_tag_frequency": "{}",
        "modelspec.title": "my \x1b[31mstyle",
    }
    rows, last = printed(write_weights(path, LORA, metadata=metadata), capsys)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    tensors_sha256 = hashlib.sha256(bytes(2 * (4 * 768 + 320 * 4))).hexdigest()
    assert rows == {
        "file": "a LoRA for Stable Diffusion 1",
        "changes": "unet: one layer",
        "format": "kohya",
        "rank": "4",
        "alpha": "that of the rank",
        "tensors": f"2 F16; {path.stat().st_size:,} bytes",
        "title": "my \\u001b[31mstyle",
        "base model": "sd_v1",
        "trained by": "networks.lora",
        "dimension": "4",
        "sha256": sha256,
        "AutoV2": sha256[:10],
        "AutoV3": tensors_sha256[:12],
    }
    assert last == f"sdrt export MODEL --lora {shlex.quote(str(path))} -o BUNDLE"


@pytest.mark.parametrize(
    ("tensors", "rows", "last"),
    [
        (
            {**UNET, **ENCODER, **VAE, **MARKS},
            {
                "file": "a checkpoint of Stable Diffusion 1 for inpainting",
                "contains": "UNet, text encoder, VAE, averaged weights of the UNet (EMA)",
                "layout": "CompVis (ldm)",
                "prediction": "v_prediction",
            },
            "sdrt export {} -o BUNDLE",
        ),
        (
            UNET,
            {"contains": "UNet", "prediction": "not recorded (epsilon or v_prediction)"},
            "cannot be exported: give the checkpoint with its text encoders",
        ),
        (
            CONTROLNET,
            {
                "file": "a ControlNet for Stable Diffusion 1",
                "layout": "diffusers",
                "reads": "images of 3 channels",
            },
            "sdrt export --controlnet NAME={} --into BUNDLE",
        ),
        (
            VAE,
            {"file": "a VAE of 4 latent channels", "contains": "encoder, decoder"},
            "sdrt export MODEL --vae {} -o BUNDLE",
        ),
        (
            TINY,
            {
                "file": "a tiny VAE of 4 latent channels without its encoder",
                "contains": "decoder",
                "layout": "TAESD",
            },
            "sdrt export MODEL --tiny-vae {} -o BUNDLE",
        ),
        (
            {"clip_l": (2, 768), "clip_g": (2, 1280)},
            {
                "file": "an embedding for Stable Diffusion XL",
                "vectors": "2, of width 768 and 1280",
                "token": "the name of the file",
            },
            "sdrt export MODEL --embedding {} -o BUNDLE",
        ),
        (
            {"double_blocks.0.img_attn.norm.key_norm.scale": (128,)},
            {"file": "a Flux model"},
            "cannot be exported: sdrt reads checkpoints, VAEs, ControlNets, LoRAs and embeddings "
            "of Stable Diffusion 1, 2, XL",
        ),
        (
            {
                **LORA,
                "lora_unet_conv_in.lora_down.weight": (8, 4, 3, 3),
                "lora_unet_conv_in.lora_up.weight": (320, 8, 1, 1),
                "bundle_emb.bad.emb_params": (1, 768),
            },
            {
                "changes": "unet: 2 layers, some of them 3×3 convolutions",
                "rank": "4 to 8",
                "embeddings": "bad",
            },
            "sdrt export MODEL --lora {} -o BUNDLE",
        ),
    ],
    ids=[
        *("checkpoint", "unet", "controlnet", "vae", "tiny vae"),
        *("embedding", "foreign", "convolutions"),
    ],
)
def test_other_files(
    tensors: Mapping[str, Tensor],
    rows: dict[str, str],
    last: str,
    path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found, below = printed(write_weights(path, tensors), capsys)
    assert {label: found[label] for label in rows} == rows
    assert below == last.format(shlex.quote(str(path)))


def test_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_weights(path, LORA, metadata={"ss_network_dim": "4"})
    assert main(["inspect", str(path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (record.pop("sha256"), record.pop("autov2")) == (sha256, sha256[:10])
    assert len(record.pop("autov3")) == 12
    assert record == {
        "kind": "LoRA",
        "title": "a LoRA for Stable Diffusion 1",
        "family": "stable-diffusion-1",
        "format": "kohya",
        "methods": ["LoRA"],
        "parts": ["unet"],
        "num_layers": 1,
        "ranks": [4],
        "alphas": [],
        "convolutions": False,
        "embeddings": [],
        "metadata": {"dimension": "4"},
    }


def test_long_values_are_not_cut(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["inspect", str(write_weights(path, LORA))]) == 0
    text = capsys.readouterr().out
    assert hashlib.sha256(path.read_bytes()).hexdigest() in "".join(text.split())
    assert f"sdrt export MODEL --lora '{path}' -o BUNDLE\n" in text


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("gone.safetensors", None, "FILE: cannot be read: No such file or directory"),
        ("gone.ckpt", None, "FILE: cannot be read: No such file or directory"),
        ("model.ckpt", b"PK\x03\x04", "'FILE' is a pickle, which runs code when it is loaded"),
        ("model", b"text", "'FILE' is not a safetensors file: it begins with b'text'"),
        (
            "sdrt.json",
            b"{}",
            "'FILE' is a JSON file, expected safetensors: give the weights themselves, or",
        ),
    ],
)
def test_bad_input_is_one_line(
    name: str,
    content: bytes | None,
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert main(["inspect", str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"sdrt: {reason.replace('FILE', str(path))}")
    assert captured.err.count("\n") == 1


def test_a_folder_is_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bundle.safetensors").mkdir()
    assert main(["inspect", str(tmp_path / "bundle.safetensors")]) == 1
    assert "bundle" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "gone")]) == 1
    assert "no bundle at" in capsys.readouterr().err


def test_it_loads_neither_torch_nor_an_engine(path: Path, tmp_path: Path) -> None:
    write_weights(path, LORA)
    loaded = run_sdrt("inspect", path.name, folder=tmp_path).loaded
    assert "sdrt" in loaded
    assert not loaded & {"torch", "safetensors", "onnxruntime", "tokenizers", "PIL"}
