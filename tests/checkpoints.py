"""Tiny Stable Diffusion checkpoints with seeded random weights, for comparing with diffusers; their
names are those of `recipes`."""

from __future__ import annotations

import copy
import inspect
import json
import math
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from recipes import ALL, END, Recipe

MAX_LENGTH = 77
CORPUS = """a red circle on a white background, a small blue square, the largest green triangle,
a photograph of an astronaut riding a horse, masterpiece, best quality, highly detailed,
blurry, low quality, deformed, watermark, three cats and 12 dogs, it's the artist's own café"""

_WORD_END = "</w>"
_START = "<|startoftext|>"


def tiny_checkpoint(name: str, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Writes the recipe's diffusers checkpoint into `folder`, which it returns.

    The weights are the same every time.
    """
    tiny_pipeline(name).to(dtype).save_pretrained(folder)
    return folder


def tiny_pipeline(name: str) -> Any:
    """The recipe's pipeline, float32, on the CPU; its UNet gives numbers of unit spread.

    Each call returns a copy, which may be changed.
    """
    return copy.deepcopy(_new_pipeline(name))


@cache
def _new_pipeline(name: str) -> DiffusionPipeline:
    recipe = ALL[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(list(ALL).index(name))
        parts = _new_text_parts(recipe)
        encoders = [part for part in parts.values() if isinstance(part, torch.nn.Module)]
        unet = _new_unet(recipe, sum(encoder.config.hidden_size for encoder in encoders))
        vae = _new_vae(recipe)
        for model in (*encoders, unet, vae):
            _stir_norms_and_biases(model.eval())
        _listen_to_text(unet)
        _normalize_outputs(unet, vae)
    if recipe.text_encoder_2 is None:
        parts |= {"safety_checker": None, "feature_extractor": None}
        parts["requires_safety_checker"] = False
    pipeline = getattr(diffusers, recipe.pipeline)
    scheduler = getattr(diffusers, recipe.scheduler)(**recipe.schedule)
    return pipeline(unet=unet, vae=vae, scheduler=scheduler, **parts, **recipe.options)


def _new_text_parts(recipe: Recipe) -> dict[str, Any]:
    """The text encoders and tokenizers; None for the refiner's first ones."""
    tokenizer = tiny_tokenizer(recipe.pad_token)
    if recipe.text_encoder_2 is None:
        encoder = CLIPTextModel(_text_config(tokenizer, recipe.text_encoder or {}))
        return {"text_encoder": encoder, "tokenizer": tokenizer}
    parts: dict[str, Any] = {"text_encoder": None, "tokenizer": None}
    if recipe.text_encoder is not None:
        encoder = CLIPTextModel(_text_config(tokenizer, recipe.text_encoder))
        parts = {"text_encoder": encoder, "tokenizer": tokenizer}
    second = tiny_tokenizer("!")
    projected = CLIPTextModelWithProjection(_text_config(second, recipe.text_encoder_2))
    return parts | {"text_encoder_2": projected, "tokenizer_2": second}


def tiny_controlnet(
    name: str, folder: Path, conditioning_channels: int = 3, **options: Any
) -> Path:
    """Writes a diffusers ControlNet for the recipe's UNet into `folder`, which it returns.

    Options are those of `ControlNetModel`; other options or channels give other weights.
    """
    new_controlnet(name, conditioning_channels, **options).save_pretrained(folder)
    return folder


def new_controlnet(name: str, conditioning_channels: int = 3, **options: Any) -> ControlNetModel:
    """The ControlNet, float32, on the CPU.

    The spread of its residuals is about a fifth of that of the skip connections.
    """
    pipeline = _new_pipeline(name)
    unet, levels = pipeline.unet, len(pipeline.vae.config.block_out_channels)
    names = set(inspect.signature(ControlNetModel).parameters) & set(unet.config)
    config = (
        {name: unet.config[name] for name in names}
        | {
            "in_channels": unet.config.out_channels,  # plain latents, also for inpainting
            "mid_block_type": "UNetMidBlock2DCrossAttn",
            "conditioning_channels": conditioning_channels,
            "conditioning_embedding_out_channels": (4, 6, 8, 8)[:levels],
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(100 + conditioning_channels)
        controlnet = ControlNetModel(**(config | options)).eval()
        _stir_norms_and_biases(controlnet)
        _listen_to_text(controlnet)
        _fill_zero_convolutions(controlnet, unet)
    return controlnet


def tiny_tokenizer(pad_token: str = END) -> CLIPTokenizer:
    """A tokenizer in CLIP's format, whose merges are learnt from `CORPUS`."""
    merges = _learn_merges()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())  # "!" comes first, as in CLIP
    tokens = [
        *letters,
        *(letter + _WORD_END for letter in letters),
        *map("".join, merges),
        _START,
        END,
    ]
    with TemporaryDirectory() as folder:
        vocabulary = {token: number for number, token in enumerate(tokens)}
        Path(folder, "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
        lines = ["#version: 0.2", *map(" ".join, merges)]
        Path(folder, "merges.txt").write_text("\n".join(lines) + "\n")
        return CLIPTokenizer(
            str(Path(folder, "vocab.json")),
            str(Path(folder, "merges.txt")),
            pad_token=pad_token,
            model_max_length=MAX_LENGTH,
        )


@cache
def _learn_merges() -> tuple[tuple[str, str], ...]:
    learner = Tokenizer(models.BPE(end_of_word_suffix=_WORD_END))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Whitespace(),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=2000, end_of_word_suffix=_WORD_END, show_progress=False
    )
    learner.train_from_iterator([CORPUS], trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return tuple((left, right) for left, right in merges)


def _text_config(tokenizer: CLIPTokenizer, options: dict[str, Any]) -> CLIPTextConfig:
    defaults = {
        "vocab_size": len(tokenizer),
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "max_position_embeddings": MAX_LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return CLIPTextConfig(**(defaults | options))


def _new_unet(recipe: Recipe, cross_attention_dim: int) -> UNet2DConditionModel:
    options: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": (4, 8),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 2,  # the number of heads, despite its name
        "norm_num_groups": 2,
        "cross_attention_dim": cross_attention_dim,
    } | recipe.unet
    if recipe.text_encoder_2 is not None:
        embedded = recipe.num_time_ids * options["addition_time_embed_dim"]
        width = recipe.text_encoder_2["projection_dim"] + embedded
        options["projection_class_embeddings_input_dim"] = width
    return UNet2DConditionModel(**options)


def _new_vae(recipe: Recipe) -> AutoencoderKL:
    options: dict[str, Any] = {
        "block_out_channels": (4, 8),
        "norm_num_groups": 2,
        "scaling_factor": 0.18215,
    } | recipe.vae
    num_levels = len(options["block_out_channels"])
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * num_levels,
        up_block_types=("UpDecoderBlock2D",) * num_levels,
        sample_size=16 * 2 ** (num_levels - 1),
        **options,
    )


@torch.no_grad()
def _stir_norms_and_biases(model: torch.nn.Module) -> None:
    """Changes the norms: a new norm multiplies by 1 and adds 0, so its absence would go
    unnoticed."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter += 0.1 * torch.randn_like(parameter)


@torch.no_grad()
def _listen_to_text(unet: UNet2DConditionModel) -> None:
    """Makes the prompt, SDXL's pooled vector and sizes affect the image; with new weights they
    hardly do."""
    for name, weight in unet.named_parameters():
        if ("attn2.to_" in name or name.startswith("add_embedding.")) and weight.ndim == 2:
            weight *= 3


def added_conditions(
    config: Any, rows: int, num_time_ids: int, random: torch.Generator | None = None
) -> dict[str, torch.Tensor]:
    """A pooled vector and sizes for an SDXL UNet or ControlNet of that configuration; nothing for
    other models."""
    if config.addition_embed_type is None:
        return {}
    embedded = num_time_ids * config.addition_time_embed_dim
    width = config.projection_class_embeddings_input_dim - embedded
    return {
        "text_embeds": torch.randn((rows, width), generator=random),
        "time_ids": torch.randint(1000, (rows, num_time_ids), generator=random).float(),
    }


_ANY_SPLIT = 5  # of the vector that SDXL's UNet takes: base models and refiners accept this one


@torch.no_grad()
def _normalize_outputs(unet: UNet2DConditionModel, vae: AutoencoderKL) -> None:
    """Scales the last convolutions: predictions of spread 1, images that use their range."""
    sample = torch.randn(1, unet.config.in_channels, 16, 16)
    context = torch.randn(1, MAX_LENGTH, unet.config.cross_attention_dim)
    added = added_conditions(unet.config, 1, _ANY_SPLIT)
    unet.conv_out.weight /= unet(sample, 500, context, added_cond_kwargs=added).sample.std()
    latents = torch.randn(1, vae.config.latent_channels, 16, 16) / vae.config.scaling_factor
    vae.decoder.conv_out.weight *= 0.4 / vae.decode(latents).sample.std()


@torch.no_grad()
def _fill_zero_convolutions(controlnet: ControlNetModel, unet: UNet2DConditionModel) -> None:
    """Fills the layers that training would fill: a new ControlNet adds nothing."""
    config, embedding = controlnet.config, controlnet.controlnet_cond_embedding
    sample = torch.randn(2, config.in_channels, 16, 16)
    context = torch.randn(2, MAX_LENGTH, config.cross_attention_dim)
    scale = 2 ** (len(config.conditioning_embedding_out_channels) - 1)
    image = torch.rand(2, config.conditioning_channels, 16 * scale, 16 * scale)
    for layer in (embedding.conv_in, *embedding.blocks, embedding.conv_out):
        layer.weight.normal_(std=2 / math.sqrt(layer.weight[0].numel()))
    embedding.conv_out.weight *= controlnet.conv_in(sample).std() / embedding(image).std()

    outlets = [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]
    for outlet in outlets:
        outlet.weight.normal_()
    added = added_conditions(config, 2, _ANY_SPLIT)
    down, mid = controlnet(sample, 500, context, image, added_cond_kwargs=added, return_dict=False)
    for outlet, residual, skip in zip(outlets, (*down, mid), _skips_of(unet, context), strict=True):
        factor = 0.2 * skip.std() / residual.std()
        outlet.weight *= factor
        outlet.bias *= factor


def _skips_of(unet: UNet2DConditionModel, context: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that residuals are added to: skip connections and the middle block's output."""
    skips = []
    sample = torch.randn(len(context), unet.config.in_channels, 16, 16)
    blocks = [unet.conv_in, *unet.down_blocks, unet.mid_block or unet.down_blocks[-1]]
    hooks = [
        block.register_forward_hook(lambda block, inputs, output: skips.append(output))
        for block in blocks
    ]
    added = added_conditions(unet.config, len(context), _ANY_SPLIT)
    unet(sample, 500, context, added_cond_kwargs=added)
    for hook in hooks:
        hook.remove()
    return [
        tensor for kept in skips for tensor in (kept[1] if isinstance(kept, tuple) else (kept,))
    ]
