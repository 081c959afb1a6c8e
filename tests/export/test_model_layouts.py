"""The layouts of full-size models that the tests write, compared with diffusers and transformers.

Original names are compared in `checkpoints/test_original_names.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from sdrt_export import architectures
from sdrt_export.architectures import Architecture
from support.model_layouts import (
    REFINER,
    SD1,
    SD2,
    SDXL,
    Shapes,
    UnetLayout,
    clip_shapes,
    controlnet_shapes,
    open_clip_shapes,
    original_vae_shapes,
    unet_shapes,
    vae_shapes,
)
from support.original_layout import original_clip, original_open_clip, original_vae

pytestmark = pytest.mark.export

FAMILIES = pytest.mark.parametrize(
    ("layout", "architecture"),
    [
        (SD1, architectures.SD15),
        (SD2, architectures.SD21),
        (SDXL, architectures.SDXL),
        (REFINER, architectures.SDXL_REFINER),
    ],
    ids=["sd1", "sd2", "sdxl", "refiner"],
)


@FAMILIES
def test_a_unet(layout: UnetLayout, architecture: Architecture) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**architecture.unet)
    assert unet_shapes(layout) == shapes_of(unet)


def test_a_controlnet() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**architectures.SD15.unet)
        net = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
    assert controlnet_shapes(SD1) == shapes_of(net)


def test_a_vae() -> None:
    with torch.device("meta"):
        vae = AutoencoderKL(**architectures.SD15.vae)
    assert vae_shapes() == shapes_of(vae)
    assert original_vae_shapes() == tensor_shapes(original_vae(vae.state_dict()))


def test_text_encoders() -> None:
    with torch.device("meta"):
        first = CLIPTextModel(CLIPTextConfig(**(architectures.SDXL.text_encoder or {})))
        second = CLIPTextModelWithProjection(
            CLIPTextConfig(**(architectures.SDXL.text_encoder_2 or {}))
        )
    assert clip_shapes(768, 12) == tensor_shapes(original_clip(first.state_dict()))
    expected = tensor_shapes(original_open_clip(second.state_dict()))
    assert open_clip_shapes(1280, 32) == {**expected, "logit_scale": ()}


def shapes_of(model: torch.nn.Module) -> Shapes:
    return tensor_shapes(model.state_dict())


def tensor_shapes(tensors: Mapping[str, torch.Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
