"""Files that sdrt does not read, named by some of their keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdrt.adapters.found import ForeignFile
from sdrt.adapters.recognition import recognised
from sdrt.adapters.safetensors import SafetensorsFile
from support.model_layouts import SD1, SDXL, controlnet_shapes, unet_shapes
from support.original_names import original_unet, prefixed
from support.weights_files import write_weights

CONTROLNET = list(controlnet_shapes(SDXL))
UNET = list(prefixed("model.diffusion_model.", original_unet(unet_shapes(SDXL))))
MOTION = "a motion module or motion LoRA of AnimateDiff"
TO_K = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"


@pytest.mark.parametrize(
    ("keys", "title"),
    [
        (["ip_adapter.1.to_k_ip.weight", "image_proj.proj.weight"], "an IP-Adapter"),
        (["ip_adapter.1.to_k_ip.weight", "ip_adapter.0.to_q_lora.down.weight"], "an IP-Adapter"),
        (["adapter.body.0.resnets.0.block1.weight"], "a T2I-Adapter"),
        (["conv_in.weight", "body.0.block1.weight"], "a T2I-Adapter"),
        (
            [*CONTROLNET, "task_embedding", "transformer_layes.0.attn.in_proj_weight"],
            "a ControlNet-Union",
        ),
        (
            ["lora_controlnet", "input_hint_block.0.weight", "time_embed.0.down"],
            "a ControlNet-LoRA",
        ),
        (["lllite_unet_input_blocks_4_1_attn1_to_k.down.0.weight"], "a ControlNet-LLLite"),
        (
            ["controlnet_blocks.0.weight", "transformer_blocks.0.norm1_context.linear.weight"],
            "a ControlNet for a transformer such as Flux or SD3",
        ),
        ([*CONTROLNET, "down_blocks.0.motion_modules.0.norm.weight"], "a SparseCtrl encoder"),
        (["down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"], MOTION),
        ([*UNET, "edm_mean", "edm_std"], "a model of Playground 2.5, which denoises as EDM"),
        ([*UNET, "edm_vpred.sigma_max"], "a model of CosXL, which denoises as EDM"),
        (["conv_in.weight", "add_embedding.image_norm.weight"], "a model of Kandinsky 2"),
        (["clip_txt_mapper.weight"], "a model of Stable Cascade"),
        (
            ["model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias"],
            "an SD3 or SD3.5 model",
        ),
        (
            ["pos_embed.proj.weight", "transformer_blocks.0.norm1_context.linear.weight"],
            "an SD3 or SD3.5 model",
        ),
        (["double_blocks.0.img_attn.norm.key_norm.scale", "img_in.weight"], "a Flux model"),
        (["model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale"], "a Flux model"),
        (["transformer.single_transformer_blocks.0.attn.to_q.weight"], "a Flux model"),
        (["model.diffusion_model.single_stream_modulation.lin.weight"], "a Flux.2 model"),
        (["double_layers.0.attn.w1q.weight"], "a model of AuraFlow"),
        (["t_block.1.weight", "blocks.0.mlp.inverted_conv.conv.weight"], "a SANA model"),
        (["t_block.1.weight"], "a PixArt model"),
        (["model.diffusion_model.head.modulation"], "a model of Wan"),
        (["txt_in.individual_token_refiner.blocks.0.norm1.weight"], "a model of HunyuanVideo"),
        (["decoder.middle.0.residual.0.gamma"], "the VAE of Wan"),
        (["decoder.conv_in.conv.weight"], "a VAE for video"),
        (["body.0.rdb1.conv1.weight", "conv_first.weight"], "an upscaler"),
        (["text_model.encoder.layers.0.self_attn.q_proj.weight"], "a CLIP text encoder"),
    ],
)
def test_it_is_named(keys: list[str], title: str, tmp_path: Path) -> None:
    path = write_weights(tmp_path / "model.safetensors", dict.fromkeys(keys, (1,)))
    assert recognised(SafetensorsFile.open(path)) == ForeignFile(title)


@pytest.mark.parametrize("mark", [f"{TO_K}.absmax", "scaled_fp8", TO_K[:-6] + "qweight"])
def test_a_quantised_model(mark: str, tmp_path: Path) -> None:
    keys = [*prefixed("model.diffusion_model.", original_unet(unet_shapes(SD1))), mark]
    path = write_weights(tmp_path / "model.safetensors", dict.fromkeys(keys, (1,)))
    assert recognised(SafetensorsFile.open(path)) == ForeignFile(
        "a quantised model",
        "give the file that it was quantised from, in float16, bfloat16 or float32",
    )
