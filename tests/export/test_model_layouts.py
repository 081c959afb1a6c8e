"""The layouts of full-size models that the tests write, compared with diffusers."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_controlnet_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)

from sdrt_export import architectures
from sdrt_export.architectures import Architecture
from support.model_layouts import (
    REFINER,
    SD1,
    SD2,
    SDXL,
    Shape,
    UnetLayout,
    controlnet_weights,
    unet_weights,
    vae_shapes,
)

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
        ldm = {f"model.diffusion_model.{w.ldm}": torch.empty(w.shape) for w in unet_weights(layout)}
    expected = shapes_of(unet)
    assert {w.diffusers: w.shape for w in unet_weights(layout)} == expected
    assert tensor_shapes(convert_ldm_unet_checkpoint(ldm, unet.config)) == expected


def test_a_controlnet() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**architectures.SD15.unet)
        net = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
        ldm = {f"control_model.{w.ldm}": torch.empty(w.shape) for w in controlnet_weights(SD1)}
    expected = shapes_of(net)
    assert {w.diffusers: w.shape for w in controlnet_weights(SD1)} == expected
    assert tensor_shapes(convert_controlnet_checkpoint(ldm, net.config)) == expected


def test_a_vae() -> None:
    with torch.device("meta"):
        vae = AutoencoderKL(**architectures.SD15.vae)
        ldm = {f"first_stage_model.{k}": torch.empty(shape) for k, shape in vae_shapes().items()}
        converted = convert_ldm_vae_checkpoint(ldm, vae.config)
    assert tensor_shapes(converted) == shapes_of(vae)


def shapes_of(model: torch.nn.Module) -> dict[str, Shape]:
    return tensor_shapes(model.state_dict())


def tensor_shapes(tensors: dict[str, torch.Tensor]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
