"""The families that sdrt runs, derived from diffusers' configurations.

Source: diffusers 0.39, `StableDiffusionPipeline` and its img2img and inpaint variants,
`LatentConsistencyModelPipeline`, `StableDiffusionXLPipeline` and its variants, `AutoencoderKL`,
`UNet2DConditionModel`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from sdrt import tensor_names as names
from sdrt.errors import BundleError
from sdrt.families.family import DenoiserFacts, Encoder, Family, LatentSpace, Role, TextRecipe
from sdrt.files.json_fields import JsonFields, within

# The roles of networks in folders of optimum's layout; a manifest states them itself.
ROLES: Mapping[str, Role] = {
    names.TEXT_ENCODER: "text encoder",
    names.TEXT_ENCODER_2: "text encoder",
    names.UNET: "denoiser",
    names.VAE_DECODER: "vae decoder",
    names.VAE_ENCODER: "vae encoder",
}

TINY_VAE_CLASS = "AutoencoderTiny"  # TAESD: the class in diffusers
_SD1_SCALING_FACTOR = 0.18215  # AutoencoderKL's default
_MAX_TOKENS = 77  # CLIPTextConfig's default
_PENULTIMATE: Mapping[str, Any] = {"layer": -2, "normed": False}


# The schedulers of SD-Turbo, SDXL-Turbo and SDXL-Lightning, which space their timesteps "trailing".
_FEW_STEP_SCHEDULERS = ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler")

# Reads diffusers' configuration of a part: "model_index", "scheduler", "text_encoder", "unet" or
# "vae".
Reader: TypeAlias = Callable[[str], tuple[str, JsonFields]]  # the file's path and its fields


def family_from_configs(read: Reader) -> Family:
    """The family of a checkpoint or of an ONNX folder.

    BundleError that begins with the file's path for a family that sdrt does not run or a malformed
    field.
    """
    family = _family(read)
    path, scheduler = read("scheduler")
    with within(path):
        return _distilled(family, scheduler) if _takes_few_steps(scheduler) else family


def _family(read: Reader) -> Family:
    path, index = read("model_index")
    with within(path):
        class_name = index.text("_class_name")
        require_known_pipeline(class_name)
    path, vae = read("vae")
    with within(path):
        latents = latents_from_config(vae)
    path, unet = read("unet")
    if "StableDiffusionXL" in class_name:
        text = _text_of_xl(index, read)
        with within(path):
            return _stable_diffusion_xl(index, text, _latents_of_xl(latents, vae), unet)
    text = TextRecipe((_encoder(read, names.TEXT_ENCODER, "tokenizer"),))
    with within(path):
        family = _stable_diffusion(text, latents, unet)
    return _latent_consistency(family) if "LatentConsistencyModel" in class_name else family


# The classes of diffusers and optimum that sdrt runs, and other programs' subclasses of them.
_KNOWN_PIPELINE = re.compile(
    r"(ORT|Onnx)?(StableDiffusion(XL)?(ControlNet)?|LatentConsistencyModel)(Img2Img|Inpaint)?"
    r"Pipeline\w*"
)
# Words in the names of others that are also called Stable Diffusion, and their meanings.
OTHER_PIPELINES: Mapping[str, str] = {
    "Adapter": "conditioned by a T2I-Adapter",
    "AttendAndExcite": "another way of guidance",
    "ControlNetUnion": "one ControlNet for several kinds of images",
    "ControlNetXS": "another kind of ControlNet",
    "Depth2Img": "conditioned by a depth map",
    "DiffEdit": "edits images by two prompts",
    "GLIGEN": "conditioned by boxes",
    "ImageVariation": "conditioned by an image instead of a prompt",
    "InstructPix2Pix": "edits images by an instruction",
    "KDiffusion": "with the samplers of another library",
    "LDM3D": "also generates depth",
    "PAG": "another way of guidance",
    "Panorama": "another way of denoising",
    "Pix2PixZero": "edits images by two prompts",
    "SAG": "another way of guidance",
    "Upscale": "an upscaler",
}


def require_known_pipeline(class_name: str) -> None:
    """BundleError unless sdrt runs this pipeline class of diffusers or optimum."""
    if _KNOWN_PIPELINE.fullmatch(class_name):
        return
    meanings = [meaning for word, meaning in OTHER_PIPELINES.items() if word in class_name]
    meaning = f" ({meanings[0]})" if meanings else ""
    raise BundleError(
        f"_class_name: got '{class_name}'{meaning}, expected a pipeline of Stable Diffusion 1, 2 "
        "or XL (inpainting, refiner and LCM included): this version of sdrt runs no other family"
    )


def has_part(index: JsonFields, name: str) -> bool:
    """True if a model_index.json names a model for that part."""
    return index.values.get(name) not in (None, [None, None])


def _encoder(read: Reader, component: str, tokenizer: str, **facts: Any) -> Encoder:
    path, config = read(component)
    with within(path):
        max_tokens = config.integer("max_position_embeddings", _MAX_TOKENS)
        return Encoder(component, tokenizer, max_tokens=max_tokens, **facts)


def _stable_diffusion(text: TextRecipe, latents: LatentSpace, unet: JsonFields) -> Family:
    # CLIP ViT-L/14 of version 1 is 768 wide, OpenCLIP ViT-H/14 of version 2 is 1024 wide
    version = 2 if unet.values.get("cross_attention_dim") == 1024 else 1
    return Family(
        name=f"stable-diffusion-{version}",
        text=text,
        latents=latents,
        denoiser=_facts(unet, latents),
        defaults=_defaults(unet, latents, guidance_scale=7.5),
        scheduler={"steps_offset": 1, "clip_sample": False},
        inpainting_scheduler={"skip_prk_steps": True},
    )


def _stable_diffusion_xl(
    index: JsonFields, text: TextRecipe, latents: LatentSpace, unet: JsonFields
) -> Family:
    """The base model or its refiner, which has the second text encoder only."""
    refiner = len(text.encoders) == 1
    scored = index.flag("requires_aesthetics_score", default=False)
    facts = _facts(unet, latents)
    defaults = _defaults(unet, latents, guidance_scale=5.0)
    inpainting = {"strength": 0.9999, "guidance_scale": 7.5}
    if facts.guidance == "embedded":  # as in LCM-SDXL's model card
        defaults |= {"guidance_scale": 8.0, "num_inference_steps": 4}
        del inpainting["guidance_scale"]
    return Family(
        name="stable-diffusion-xl-refiner" if refiner else "stable-diffusion-xl",
        text=text,
        latents=latents,
        denoiser=replace(
            facts,
            time_ids=("original_size", "crop", "aesthetic_score" if scored else "target_size"),
        ),
        defaults=defaults,
        image_defaults={"strength": 0.3},
        inpainting_defaults=inpainting,
    )


def _text_of_xl(index: JsonFields, read: Reader) -> TextRecipe:
    """The penultimate states of both encoders, and the projected state of the second one."""
    second = _encoder(
        read, names.TEXT_ENCODER_2, "tokenizer_2", pooled=names.TEXT_EMBEDS, **_PENULTIMATE
    )
    zeros = index.flag("force_zeros_for_empty_prompt", default=True)
    missing_negative: Literal["zeros", "encode"] = "zeros" if zeros else "encode"
    if not has_part(index, names.TEXT_ENCODER):
        return TextRecipe((second,), pooled=(0,), missing_negative=missing_negative)
    first = _encoder(read, names.TEXT_ENCODER, "tokenizer", **_PENULTIMATE)
    return TextRecipe((first, second), ((0, 1),), (1,), missing_negative=missing_negative)


def _facts(unet: JsonFields, latents: LatentSpace) -> DenoiserFacts:
    distilled = unet.values.get("time_cond_proj_dim") is not None
    return DenoiserFacts(
        extra_channels=_extra_channels(unet, latents.channels),
        guidance="embedded" if distilled else "classifier-free",
    )


def _defaults(unet: JsonFields, latents: LatentSpace, guidance_scale: float) -> dict[str, Any]:
    width, height = _native_size(unet, latents.vae_scale_factor)
    return {
        "guidance_scale": guidance_scale,
        "num_inference_steps": 50,
        "height": height,
        "width": width,
    }


def _latent_consistency(family: Family) -> Family:
    """A Stable Diffusion model as `LatentConsistencyModelPipeline` and its img2img variant run
    it."""
    return replace(
        family,
        defaults={**family.defaults, "guidance_scale": 8.5, "num_inference_steps": 4},
        image_timesteps="spaced again",
    )


def _takes_few_steps(scheduler: JsonFields) -> bool:
    """True for the scheduler of a model that was distilled to a few steps, without guidance.

    Models for zero terminal SNR also have trailing timesteps, but predict v.
    """
    return (
        scheduler.text("_class_name") in _FEW_STEP_SCHEDULERS
        and scheduler.text("timestep_spacing", "") == "trailing"
        and scheduler.text("prediction_type", "epsilon") != "v_prediction"
    )


def _distilled(family: Family, scheduler: JsonFields) -> Family:
    """The family without guidance; SDXL-Lightning's model for a single step predicts the image."""
    single = scheduler.text("prediction_type", "epsilon") == "sample"
    few_steps = {"guidance_scale": 0.0, "num_inference_steps": 1 if single else 4}
    strength = family.inpainting_defaults["strength"]
    return replace(
        family,
        defaults={**family.defaults, **few_steps},
        inpainting_defaults={"strength": strength},
    )


def latents_from_config(vae: JsonFields) -> LatentSpace:
    """The latent space of an `AutoencoderKL`."""
    levels = vae.array("block_out_channels")
    return LatentSpace(
        channels=vae.integer("latent_channels", 4),
        vae_scale_factor=1 << max(len(levels) - 1, 0),  # each level except the last halves the size
        scaling_factor=vae.number("scaling_factor", default=_SD1_SCALING_FACTOR),
        shift_factor=vae.number("shift_factor", default=0),
    )


def latents_from_tiny_config(vae: JsonFields) -> LatentSpace:
    """The latent space of an `AutoencoderTiny`: as a rule, that of the denoiser, unscaled."""
    return LatentSpace(
        channels=vae.integer("latent_channels", 4),
        vae_scale_factor=1 << max(len(vae.array("decoder_block_out_channels")) - 1, 0),
        scaling_factor=vae.number("scaling_factor", default=1),
        shift_factor=vae.number("shift_factor", default=0),
    )


def latents_with_vae(family: Family, vae: JsonFields) -> LatentSpace:
    """The latent space of a family with another `AutoencoderKL`. What its configuration leaves out
    of the scale stays as it is."""
    own = family.latents
    space = replace(
        latents_from_config(vae),
        scaling_factor=vae.number("scaling_factor", default=own.scaling_factor),
        shift_factor=vae.number("shift_factor", default=own.shift_factor),
        mean=own.mean,
        std=own.std,
    )
    return _latents_of_xl(space, vae) if family.name.startswith("stable-diffusion-xl") else space


def _latents_of_xl(latents: LatentSpace, vae: JsonFields) -> LatentSpace:
    """The same, with the mean and the spread of each channel that SDXL's pipelines read."""
    mean, std = (_per_channel(vae, name) for name in ("latents_mean", "latents_std"))
    return latents if mean is None or std is None else replace(latents, mean=mean, std=std)


def _per_channel(vae: JsonFields, name: str) -> tuple[float, ...] | None:
    if vae.values.get(name) is None:
        return None
    return tuple(JsonFields({name: value}).number(name) for value in vae.array(name))


def _extra_channels(unet: JsonFields, latent_channels: int) -> Literal["none", "mask"]:
    channels = unet.integer("in_channels", latent_channels)
    if channels == latent_channels:
        return "none"
    if channels == 2 * latent_channels + 1:
        return "mask"
    raise BundleError(
        f"in_channels: got {channels}, expected {latent_channels}, or {2 * latent_channels + 1} "
        "for inpainting: sdrt does not run this kind of UNet"
    )


def _native_size(unet: JsonFields, vae_scale_factor: int) -> tuple[int, int]:
    """Width and height in pixels; `sample_size` counts latents: one number, or height and width."""
    match unet.values.get("sample_size"):
        case [height, width]:
            sides = [JsonFields({"sample_size": side}) for side in (width, height)]
        case _:
            sides = [unet, unet]
    width, height = (side.integer("sample_size") * vae_scale_factor for side in sides)
    return width, height
