"""Families from diffusers' configurations."""

from __future__ import annotations

from typing import Any

import pytest

from sdrt.errors import BundleError
from sdrt.families.family import DenoiserFacts, Encoder, Family, LatentSpace, TextRecipe
from sdrt.families.known import family_from_configs
from sdrt.files.json_fields import JsonFields

CONFIGS: dict[str, dict[str, Any]] = {
    "model_index": {"_class_name": "StableDiffusionPipeline"},
    "text_encoder": {},
    "unet": {"sample_size": 64, "cross_attention_dim": 768},
    "vae": {"block_out_channels": [128, 256, 512, 512]},
}


def family(**changes: dict[str, Any]) -> Family:
    """The family of Stable Diffusion 1.5's configurations with some changes."""
    parts = dict.fromkeys([*CONFIGS, *changes])
    configs = {part: CONFIGS.get(part, {}) | changes.get(part, {}) for part in parts}
    return family_from_configs(lambda part: (f"{part}.json", JsonFields(configs[part])))


def test_stable_diffusion_1() -> None:
    assert family() == Family(
        name="stable-diffusion-1",
        text=TextRecipe((Encoder("text_encoder", "tokenizer"),)),
        latents=LatentSpace(4, 8, 0.18215),
        denoiser=DenoiserFacts(),
        defaults={"guidance_scale": 7.5, "num_inference_steps": 50, "height": 512, "width": 512},
        scheduler={"steps_offset": 1, "clip_sample": False},
        inpainting_scheduler={"skip_prk_steps": True},
    )


@pytest.mark.parametrize(
    ("pipeline", "width", "name"),
    [
        ("StableDiffusionPipeline", 8, "stable-diffusion-1"),
        ("StableDiffusionPipeline", 1024, "stable-diffusion-2"),
        ("OnnxStableDiffusionPipeline", 768, "stable-diffusion-1"),
        ("ORTStableDiffusionInpaintPipeline", 768, "stable-diffusion-1"),
        ("LatentConsistencyModelPipeline", 768, "stable-diffusion-1"),
    ],
)
def test_its_name(pipeline: str, width: int, name: str) -> None:
    changed = family(model_index={"_class_name": pipeline}, unet={"cross_attention_dim": width})
    assert changed.name == name


@pytest.mark.parametrize(
    "pipeline", ["LatentConsistencyModelPipeline", "ORTLatentConsistencyModelImg2ImgPipeline"]
)
def test_latent_consistency_models(pipeline: str) -> None:
    plain, changed = family(), family(model_index={"_class_name": pipeline})
    assert changed.defaults == {**plain.defaults, "guidance_scale": 8.5, "num_inference_steps": 4}
    assert (plain.image_timesteps, changed.image_timesteps) == ("left out", "spaced again")


SDXL: dict[str, dict[str, Any]] = {
    "model_index": {
        "_class_name": "StableDiffusionXLPipeline",
        "text_encoder": ["transformers", "CLIPTextModel"],
        "force_zeros_for_empty_prompt": True,
    },
    "text_encoder_2": {},
    "unet": {"sample_size": 128, "cross_attention_dim": 2048},
    "vae": {"scaling_factor": 0.13025},
}
SECOND = Encoder("text_encoder_2", "tokenizer_2", layer=-2, normed=False, pooled="text_embeds")


def sdxl(**changes: dict[str, Any]) -> Family:
    """The family of SDXL's configurations with some changes."""
    parts = {part: config | changes.get(part, {}) for part, config in SDXL.items()}
    return family(**parts)


def test_stable_diffusion_xl() -> None:
    first = Encoder("text_encoder", "tokenizer", layer=-2, normed=False)
    assert sdxl() == Family(
        name="stable-diffusion-xl",
        text=TextRecipe((first, SECOND), ((0, 1),), (1,), missing_negative="zeros"),
        latents=LatentSpace(4, 8, 0.13025),
        denoiser=DenoiserFacts(time_ids=("original_size", "crop", "target_size")),
        defaults={"guidance_scale": 5.0, "num_inference_steps": 50, "height": 1024, "width": 1024},
        image_defaults={"strength": 0.3},
        inpainting_defaults={"strength": 0.9999, "guidance_scale": 7.5},
    )


def test_its_refiner_has_the_second_encoder_only() -> None:
    index = {
        "_class_name": "StableDiffusionXLImg2ImgPipeline",
        "text_encoder": [None, None],
        "requires_aesthetics_score": True,
        "force_zeros_for_empty_prompt": False,
    }
    refiner = sdxl(model_index=index)
    assert refiner.name == "stable-diffusion-xl-refiner"
    assert refiner.text == TextRecipe((SECOND,), pooled=(0,))
    assert refiner.denoiser.time_ids == ("original_size", "crop", "aesthetic_score")


def test_sdxl_reads_the_mean_and_spread_of_each_channel() -> None:
    spread = {"latents_mean": [0, 1, 2, 3], "latents_std": [1, 2, 3, 4.5]}
    latents = sdxl(vae=spread).latents
    assert (latents.mean, latents.std) == ((0, 1, 2, 3), (1, 2, 3, 4.5))
    assert family(vae=spread).latents.mean is None  # Stable Diffusion 1's pipelines do not


@pytest.mark.parametrize(
    "pipeline", ["FluxPipeline", "StableDiffusion3Pipeline", "ORTStableDiffusion3Pipeline"]
)
def test_other_families_are_refused_by_name(pipeline: str) -> None:
    with pytest.raises(BundleError) as caught:
        family(model_index={"_class_name": pipeline})
    assert str(caught.value) == (
        f"model_index.json: _class_name: got '{pipeline}', expected a pipeline of Stable Diffusion "
        "1, 2 or XL (inpainting, refiner and LCM included): this version of sdrt runs no other "
        "family"
    )


@pytest.mark.parametrize(
    ("unet", "facts"),
    [
        ({"in_channels": 9}, DenoiserFacts(extra_channels="mask")),
        ({"in_channels": 4, "time_cond_proj_dim": 256}, DenoiserFacts(guidance="embedded")),
        ({"time_cond_proj_dim": None}, DenoiserFacts()),
    ],
)
def test_what_the_denoiser_takes(unet: dict[str, Any], facts: DenoiserFacts) -> None:
    assert family(unet=unet).denoiser == facts


def test_latents_are_the_vae_s() -> None:
    vae = {"block_out_channels": [8, 8], "latent_channels": 8, "scaling_factor": 0.5}
    space = family(vae=vae | {"shift_factor": 0.1}, unet={"in_channels": 17}).latents
    assert space == LatentSpace(8, 2, 0.5, 0.1)
    assert space.shape_of((64, 32)) == (1, 8, 16, 32)


@pytest.mark.parametrize("vae", [{}, {"scaling_factor": None, "shift_factor": None}])
def test_what_a_vae_does_not_say_is_diffusers_default(vae: dict[str, Any]) -> None:
    assert family(vae=vae).latents == LatentSpace(4, 8, 0.18215)


@pytest.mark.parametrize(("size", "pixels"), [(24, (192, 192)), ([16, 24], (192, 128))])
def test_a_sample_size_is_a_number_or_height_and_width(size: Any, pixels: Any) -> None:
    assert family(unet={"sample_size": size}).native_size == pixels


def test_prompts_have_the_encoder_s_length() -> None:
    assert family(text_encoder={"max_position_embeddings": 32}).text.num_tokens == 32


@pytest.mark.parametrize(
    ("part", "config", "message"),
    [
        ("unet", {"sample_size": None}, "unet.json: sample_size: got null, expected an integer"),
        ("unet", {"sample_size": [8, "x"]}, 'unet.json: sample_size: got "x", expected an integer'),
        ("unet", {"sample_size": [8]}, "unet.json: sample_size: got [8], expected an integer"),
        ("unet", {"in_channels": 7}, "unet.json: in_channels: got 7, expected 4, or 9 for inpaint"),
        ("vae", {"scaling_factor": "x"}, 'vae.json: scaling_factor: got "x", expected a number'),
        ("vae", {"scaling_factor": 0}, "vae.json: scaling_factor: got 0, expected any other numb"),
        ("vae", {"latent_channels": 4.5}, "vae.json: latent_channels: got 4.5, expected an integ"),
        ("vae", {"block_out_channels": 3}, "vae.json: block_out_channels: got 3, expected an arr"),
        ("model_index", {"_class_name": 1}, "model_index.json: _class_name: got 1, expected a str"),
        ("text_encoder", {"max_position_embeddings": 1}, "text_encoder.json: max_tokens: got 1"),
    ],
)
def test_a_malformed_configuration_is_named(
    part: str, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError) as caught:
        family(**{part: config})
    assert str(caught.value).startswith(message)
