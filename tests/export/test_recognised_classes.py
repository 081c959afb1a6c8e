"""The weights of diffusers' own classes are recognised by their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from sdrt.adapters.found import ForeignFile, Found, TinyVaeFile, VaeFile
from sdrt.adapters.recognition import recognised
from sdrt.adapters.safetensors import SafetensorsFile
from sdrt_export import architectures
from support.weights_files import write_weights

pytestmark = pytest.mark.export


def found_in(tmp_path: Path, make: Callable[[], torch.nn.Module]) -> Found:
    with torch.device("meta"):
        weights = make().state_dict()
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    return recognised(SafetensorsFile.open(write_weights(tmp_path / "x.safetensors", shapes)))


SHALLOW = {"num_layers": 1}
SIZES = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
OTHERS: list[tuple[str, dict[str, Any], str]] = [
    ("FluxTransformer2DModel", {**SHALLOW, "num_single_layers": 1}, "a Flux model"),
    ("Flux2Transformer2DModel", {**SHALLOW, "num_single_layers": 1}, "a Flux.2 model"),
    ("ChromaTransformer2DModel", {**SHALLOW, "num_single_layers": 1}, "a model of Chroma"),
    ("SD3Transformer2DModel", SHALLOW, "an SD3 or SD3.5 model"),
    ("SanaTransformer2DModel", SHALLOW, "a SANA model"),
    ("PixArtTransformer2DModel", SHALLOW, "a PixArt model"),
    ("WanTransformer3DModel", SHALLOW, "a model of Wan"),
    (
        "HunyuanVideoTransformer3DModel",
        {**SHALLOW, "num_single_layers": 1},
        "a model of HunyuanVideo",
    ),
    (
        "AuraFlowTransformer2DModel",
        {"num_mmdit_layers": 1, "num_single_dit_layers": 1},
        "a model of AuraFlow",
    ),
    ("QwenImageTransformer2DModel", SHALLOW, "a model of Qwen-Image"),
    ("CogVideoXTransformer3DModel", SHALLOW, "a model of CogVideoX"),
    ("Kandinsky5Transformer3DModel", {"num_visual_blocks": 1}, "a model of Kandinsky 5"),
    ("Kandinsky3UNet", {}, "a model of Kandinsky 3"),
    ("StableCascadeUNet", {"clip_text_in_channels": 8}, "a model of Stable Cascade"),
    ("UNetSpatioTemporalConditionModel", {}, "a model of Stable Video Diffusion"),
    ("MotionAdapter", {}, "a motion module or motion LoRA of AnimateDiff"),
    ("SparseControlNetModel", {}, "a SparseCtrl encoder"),
    ("T2IAdapter", {}, "a T2I-Adapter"),
    ("T2IAdapter", {"adapter_type": "light_adapter"}, "a T2I-Adapter"),
    ("ControlNetUnionModel", SIZES, "a ControlNet-Union"),
    ("UNetControlNetXSModel", {}, "a ControlNet-XS"),
    (
        "FluxControlNetModel",
        {**SHALLOW, "num_single_layers": 1},
        "a ControlNet for a transformer such as Flux or SD3",
    ),
    ("SD3ControlNetModel", SHALLOW, "a ControlNet for a transformer such as Flux or SD3"),
    ("AutoencoderDC", {}, "a deep compression autoencoder"),
    ("AutoencoderKLHunyuanVideo", {}, "a VAE for video"),
    ("AutoencoderKLCogVideoX", {}, "a VAE for video"),
    ("VQModel", {}, "a VQ autoencoder"),
    ("ConsistencyDecoderVAE", {}, "a consistency decoder"),
]


@pytest.mark.filterwarnings("ignore:.FluxPosEmbed. is deprecated")  # diffusers uses it itself
@pytest.mark.parametrize(
    ("name", "options", "title"),
    [row for row in OTHERS if hasattr(diffusers, row[0])],  # old versions lack some of them
)
def test_a_class_that_sdrt_does_not_run(
    name: str, options: dict[str, Any], title: str, tmp_path: Path
) -> None:
    found = found_in(tmp_path, lambda: getattr(diffusers, name)(**options))
    assert found == ForeignFile(title)


def test_vaes(tmp_path: Path) -> None:
    vae = architectures.SD15.vae
    assert found_in(tmp_path, lambda: AutoencoderKL(**vae)) == VaeFile("diffusers", "", 4)
    tiny = TinyVaeFile("diffusers", "encoder.layers.", "decoder.layers.", 4)
    assert found_in(tmp_path, AutoencoderTiny) == tiny
