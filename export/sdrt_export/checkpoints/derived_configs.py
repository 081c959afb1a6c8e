"""Configurations of models, from the shapes of their weights: a single file has none.

Options that shapes do not show are taken from a known configuration: that of the published model,
or of the model that the file belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from sdrt_export.architectures import Config
from sdrt_export.checkpoints.original.clip import PROJECTION
from sdrt_export.checkpoints.original.names import Shape, count_of
from sdrt_export.errors import CheckpointError

Shapes: TypeAlias = Mapping[str, Shape]  # by the names of diffusers and transformers

_CHANNELS_PER_HEAD = 64  # of the models whose heads are not counted by `attention_head_dim`


def unet_config(known: Config, shapes: Shapes) -> dict[str, Any]:
    """The configuration of a UNet."""
    ups = range(count_of("up_blocks", shapes))
    sizes = _sizes_of_first_half(shapes)
    if not isinstance(known["attention_head_dim"], int):  # a number of heads for each level
        channels = sizes["block_out_channels"]
        sizes["attention_head_dim"] = [max(width // _CHANNELS_PER_HEAD, 1) for width in channels]
    return {
        **known,
        **sizes,
        "out_channels": _size(shapes, "conv_out.weight"),
        "up_block_types": [
            "CrossAttnUpBlock2D" if _attends(shapes, f"up_blocks.{level}") else "UpBlock2D"
            for level in ups
        ],
    }


# Options of a UNet that its ControlNets share, and shapes do not show.
_SHARED = (
    *("flip_sin_to_cos", "freq_shift", "only_cross_attention", "downsample_padding"),
    *("mid_block_scale_factor", "act_fn", "norm_num_groups", "norm_eps", "attention_head_dim"),
    *("num_attention_heads", "addition_embed_type", "addition_time_embed_dim"),
    *("upcast_attention", "resnet_time_scale_shift"),
)
_HINT = "controlnet_cond_embedding"


def controlnet_config(unet: Config, shapes: Shapes) -> dict[str, Any]:
    """The configuration of a ControlNet for the UNet of that configuration.

    Source: diffusers' `ControlNetModel.from_unet`.
    """
    shared = {name: unet[name] for name in _SHARED if name in unet}
    blocks = range(0, count_of(f"{_HINT}.blocks", shapes), 2)  # a pair for each level
    levels = (f"{_HINT}.conv_in.weight", *(f"{_HINT}.blocks.{n + 1}.weight" for n in blocks))
    return {
        **shared,
        **_sizes_of_first_half(shapes),
        "conditioning_channels": _size(shapes, f"{_HINT}.conv_in.weight", 1),
        "conditioning_embedding_out_channels": [_size(shapes, name) for name in levels],
    }


def _sizes_of_first_half(shapes: Shapes) -> dict[str, Any]:
    """The options of a UNet's input, down blocks and middle."""
    blocks = [f"down_blocks.{level}" for level in range(count_of("down_blocks", shapes))]
    channels = [_size(shapes, f"{block}.resnets.0.conv1.weight") for block in blocks]
    attended = [_attends(shapes, block) for block in blocks]
    sizes = {
        "in_channels": _size(shapes, "conv_in.weight", 1),
        "block_out_channels": channels,
        "layers_per_block": count_of("down_blocks.0.resnets", shapes),
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attended],
        "transformer_layers_per_block": _depths(shapes, blocks),
    }
    if "add_embedding.linear_1.weight" in shapes:
        width = _size(shapes, "add_embedding.linear_1.weight", 1)
        sizes["projection_class_embeddings_input_dim"] = width
    return sizes | _sizes_of_attention(shapes)


def _sizes_of_attention(shapes: Shapes) -> dict[str, Any]:
    """The options that any one of the transformers shows for all of them."""
    contexts = (name for name in shapes if name.endswith(".attn2.to_k.weight"))
    inputs = (name for name in shapes if name.endswith(".proj_in.weight"))
    context, first = next(contexts, None), next(inputs, None)
    if context is None or first is None:
        return {}
    return {
        "cross_attention_dim": _size(shapes, context, 1),
        "use_linear_projection": len(shapes[first]) == 2,
    }


def _attends(shapes: Shapes, block: str) -> bool:
    return f"{block}.attentions.0.proj_in.weight" in shapes


def _depths(shapes: Shapes, blocks: list[str]) -> list[int]:
    """The transformer layers of each level; 1 for a level without a transformer.

    The last number is also that of the middle.
    """
    middle = count_of("mid_block.attentions.0.transformer_blocks", shapes)
    depths = [count_of(f"{block}.attentions.0.transformer_blocks", shapes) for block in blocks]
    return [depth or 1 for depth in [*depths[:-1], depths[-1] or middle]]


def vae_config(known: Config, shapes: Shapes) -> dict[str, Any]:
    """The configuration of an `AutoencoderKL`."""
    blocks = [f"encoder.down_blocks.{n}" for n in range(count_of("encoder.down_blocks", shapes))]
    return {
        **known,
        "in_channels": _size(shapes, "encoder.conv_in.weight", 1),
        "out_channels": _size(shapes, "decoder.conv_out.weight"),
        "latent_channels": _size(shapes, "decoder.conv_in.weight", 1),
        "block_out_channels": [
            _size(shapes, f"{block}.resnets.0.conv1.weight") for block in blocks
        ],
        "down_block_types": ["DownEncoderBlock2D"] * len(blocks),
        "up_block_types": ["UpDecoderBlock2D"] * len(blocks),
        "layers_per_block": count_of("encoder.down_blocks.0.resnets", shapes),
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
    }


def text_encoder_config(known: Config, shapes: Shapes) -> dict[str, Any]:
    """The configuration of a CLIP text encoder."""
    embeddings, layers = "text_model.embeddings", "text_model.encoder.layers"
    tokens, first_layer = f"{embeddings}.token_embedding.weight", f"{layers}.0.mlp.fc1.weight"
    width = _size(shapes, tokens, 1)
    sizes = {"projection_dim": _size(shapes, PROJECTION)} if PROJECTION in shapes else {}
    return {
        **known,
        **sizes,
        "vocab_size": _size(shapes, tokens),
        "hidden_size": width,
        "intermediate_size": _size(shapes, first_layer),
        "max_position_embeddings": _size(shapes, f"{embeddings}.position_embedding.weight"),
        "num_hidden_layers": count_of(layers, shapes),
        "num_attention_heads": max(width // _CHANNELS_PER_HEAD, 1),
    }


def _size(shapes: Shapes, name: str, axis: int = 0) -> int:
    """One size of a weight, whose first axis counts outputs and the second inputs."""
    if name not in shapes:
        raise CheckpointError(f"lacks {name}: download or save the file again")
    shape = shapes[name]
    if len(shape) <= axis:
        raise CheckpointError(f"has {name} of shape {list(shape)}: download or save the file again")
    return shape[axis]
