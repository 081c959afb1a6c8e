"""The names of weights at full size: those of the model, from every key of the original layout, as
diffusers' converters rename them. Nothing has values here."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.loaders import single_file_utils as diffusers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from sdrt_export.architectures import (
    MID,
    SD15,
    SD21,
    SDXL,
    SDXL_REFINER,
    SMALL,
    Architecture,
    Config,
)
from sdrt_export.checkpoints import derived_configs as derived
from sdrt_export.checkpoints.original.clip import clip_names, first_layers, open_clip_names
from sdrt_export.checkpoints.original.names import Key, Names
from sdrt_export.checkpoints.original.unet import controlnet_names, unet_names
from sdrt_export.checkpoints.original.vae import vae_names
from support.original_layout import (
    Weights,
    original_clip,
    original_open_clip,
    original_vae,
)
from support.original_names import original_unet, prefixed

pytestmark = pytest.mark.export

ARCHITECTURES = {"sd15": SD15, "sd21": SD21, "sdxl": SDXL, "refiner": SDXL_REFINER}


def weights_of(make: Callable[[], torch.nn.Module]) -> Weights:
    with torch.device("meta"):
        return dict(make().state_dict())


def shapes(weights: Weights) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def assert_all_found(names: Names, original: Weights, expected: Weights) -> None:
    """Asserts that each weight is found with its shape, and each key belongs to one.

    A 1×1 convolution counts as the matrix that it equals, and transformers 5 lacks a prefix.
    """
    stored = {name: original[key.key] for name, key in names.items()}
    found = {name: key.shape(tuple(stored[name].shape)) for name, key in names.items()}
    assert plain(found) == plain(shapes(expected))
    assert {key.key for key in names.values()} == set(original)


def plain(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {
        name.removeprefix("text_model."): shape[:2] if shape[2:] == (1, 1) else shape
        for name, shape in shapes.items()
    }


def assert_same_tensors(names: Names, original: Weights, converted: Weights) -> None:
    assert names.keys() == converted.keys()
    for name, key in names.items():
        assert converted[name] is original[key.key], name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_unets(name: str) -> None:
    config = ARCHITECTURES[name].unet
    model = weights_of(lambda: UNet2DConditionModel(**config))
    original = original_unet(model)
    names = unet_names(original)
    assert_all_found(names, original, model)
    stored = prefixed("model.diffusion_model.", original)
    options = {"layers_per_block": 2, "addition_embed_type": config.get("addition_embed_type")}
    assert_same_tensors(names, original, diffusers.convert_ldm_unet_checkpoint(stored, options))
    assert_derived(derived.unet_config, config, model, UNet2DConditionModel)


@pytest.mark.parametrize("base", ["sd15", "sd21"])
def test_controlnets(base: str) -> None:
    unet = ARCHITECTURES[base].unet
    model = weights_of(lambda: controlnet_of(unet))
    original = original_unet(model)
    names = controlnet_names(original)
    assert_all_found(names, original, model)
    converted = diffusers.convert_controlnet_checkpoint(dict(original), {"layers_per_block": 2})
    assert_same_tensors(names, original, converted)


def controlnet_of(unet: Config, **differences: Any) -> ControlNetModel:
    with torch.device("meta"):
        half = ControlNetModel.from_unet(UNet2DConditionModel(**unet), load_weights_from_unet=False)
        return ControlNetModel.from_config({**half.config, **differences})


@pytest.mark.parametrize(
    ("base", "differences"),
    [("sd15", {}), ("sd21", {}), ("sdxl", {}), ("sdxl", MID), ("sdxl", SMALL)],
)
def test_the_sizes_of_controlnets(base: str, differences: Config) -> None:
    expected = controlnet_of(ARCHITECTURES[base].unet, **differences)
    config = derived.controlnet_config(
        ARCHITECTURES[base].unet, shapes(dict(expected.state_dict()))
    )
    with torch.device("meta"):
        model = ControlNetModel.from_config(config)
    assert shapes(dict(model.state_dict())) == shapes(dict(expected.state_dict()))


def test_the_vae() -> None:
    model = weights_of(lambda: AutoencoderKL(**SD15.vae))
    original = original_vae(model)
    names = vae_names(original)
    assert_all_found(names, original, model)
    options = {name: SD15.vae[name] for name in ("down_block_types", "up_block_types")}
    converted = diffusers.convert_ldm_vae_checkpoint(
        prefixed("first_stage_model.", original), options
    )
    assert converted.keys() == names.keys()
    assert_derived(derived.vae_config, SD15.vae, model, AutoencoderKL)


def test_the_text_encoder_of_sd1() -> None:
    model = weights_of(lambda: CLIPTextModel(CLIPTextConfig(**(SD15.text_encoder or {}))))
    original = original_clip(model)
    assert_all_found(clip_names(original), original, model)
    old = {key.removeprefix("text_model."): weight for key, weight in original.items()}
    assert clip_names(old).keys() == clip_names(original).keys()


def test_the_text_encoder_of_sd2() -> None:
    """Its file has one layer more than the model, and a projection."""
    assert SD21.text_encoder is not None
    whole = {**SD21.text_encoder, "num_hidden_layers": 24, "projection_dim": 1024}
    model = weights_of(lambda: CLIPTextModelWithProjection(CLIPTextConfig(**whole)))
    original = original_open_clip(model)
    names = open_clip_names(original)
    assert_all_found(names, original, model)
    assert names["text_projection.weight"] == Key("text_projection", transposed=True)
    assert "transformer.resblocks.23.ln_1.weight" in original
    used = {key.key for key in first_layers(names, 23).values()}
    assert {key for key in original if key not in used} == {
        key for key in original if ".resblocks.23." in key
    }


@pytest.mark.parametrize("architecture", [SDXL, SDXL_REFINER], ids=["sdxl", "refiner"])
def test_the_second_text_encoder_of_sdxl(architecture: Architecture) -> None:
    config = CLIPTextConfig(**(architecture.text_encoder_2 or {}))
    with torch.device("meta"):
        model = CLIPTextModelWithProjection(config)
    weights = dict(model.state_dict())
    original = original_open_clip(weights)
    names = open_clip_names(original)
    assert_all_found(names, original, weights)
    prefix = "conditioner.embedders.1.model."
    converted = diffusers.convert_open_clip_checkpoint(
        model, prefixed(prefix, original), prefix=prefix
    )
    assert plain(shapes(converted)).keys() == plain(dict.fromkeys(names, ())).keys()
    found = derived.text_encoder_config(
        architecture.text_encoder_2 or {},
        {name: key.shape(tuple(original[key.key].shape)) for name, key in names.items()},
    )
    assert found == architecture.text_encoder_2


def assert_derived(derive: Any, published: Config, weights: Weights, model: Any) -> None:
    """Asserts that the configuration from the shapes equals the published one.

    Depths of levels without attention mean nothing, so these lists may differ.
    """
    config = derive(published, shapes(weights))
    with torch.device("meta"):
        found, expected = (model.from_config(each) for each in (config, published))
    assert shapes(dict(found.state_dict())) == shapes(weights)
    ignored = {"transformer_layers_per_block", "_use_default_values"}
    for option in expected.config.keys() - ignored:
        assert as_list(found.config[option]) == as_list(expected.config[option]), option


def as_list(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
