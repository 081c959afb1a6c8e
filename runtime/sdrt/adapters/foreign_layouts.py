"""Files that sdrt does not read, recognised by keys that no other kind of file has.

Sources: diffusers' `loaders/single_file_utils.py` and the classes of its models, ComfyUI's
`model_detection.py` and `controlnet.py`, kohya's `control_net_lllite.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fnmatch import filter as matching

from sdrt.adapters.found import ForeignFile
from sdrt.adapters.safetensors import SafetensorsFile

# Those that programs put before the keys of a denoiser.
_PREFIXES = ("", "model.diffusion_model.", "diffusion_model.", "transformer.", "model.", "net.")

# A title, and the keys that all have to be there; * is any text. The first row that fits counts.
_ROWS: Sequence[tuple[str, ...]] = (
    # What conditions a model of Stable Diffusion, and is not a ControlNet
    ("an IP-Adapter", "ip_adapter.1.to_k_ip.weight"),
    ("a T2I-Adapter", "adapter.body.0.resnets.0.block1.weight"),
    ("a T2I-Adapter", "body.0.block1.weight", "conv_in.weight"),
    ("a T2I-Adapter", "body.0.in_conv.weight"),
    ("a ControlNet-LoRA", "lora_controlnet"),
    ("a ControlNet-LLLite", "lllite_unet_*"),
    ("a ControlNet-XS", "ctrl_conv_in.weight"),
    ("a ControlNet-XS", "*.ctrl_to_base.0.weight"),
    ("a ControlNet-Union", "task_embedding", "transformer_layes.0.attn.in_proj_weight"),
    ("a ControlNet stored as the difference from a model", "difference"),
    ("a ControlNet for a transformer such as Flux or SD3", "controlnet_blocks.0.weight"),
    ("a SparseCtrl encoder", "*.motion_modules.0.*", "controlnet_cond_embedding*"),
    ("a motion module or motion LoRA of AnimateDiff", "*motion_modules.0.*"),
    # UNets
    ("a model of Stable Video Diffusion", "*.time_stack.0.attn1.to_q.weight"),
    ("a model of Stable Video Diffusion", "*.temporal_transformer_blocks.0.attn1.to_q.weight"),
    ("a model of Stable unCLIP", "embedder.model.visual.transformer.resblocks.0.ln_1.weight"),
    ("a model of Playground 2.5, which denoises as EDM", "edm_mean"),
    ("a model of CosXL, which denoises as EDM", "edm_vpred.sigma_max"),
    ("a model of Kandinsky 2", "encoder_hid_proj.image_embeds.weight"),
    ("a model of Kandinsky 2", "add_embedding.image_norm.weight"),
    ("a model of Kandinsky 3", "encoder_hid_proj.projection_linear.weight"),
    ("a model of DeepFloyd IF", "add_embedding.pool.positional_embedding"),
    ("a model of Stable Cascade", "clip_txt_mapper.weight"),
    ("a model of Stable Cascade", "clip_mapper.weight"),
    # Transformers
    ("an SD3 or SD3.5 model", "joint_blocks.0.context_block.adaLN_modulation.1.bias"),
    ("an SD3 or SD3.5 model", "transformer_blocks.0.norm1_context.linear.weight", "pos_embed.*"),
    ("a model of HunyuanVideo", "txt_in.individual_token_refiner.blocks.0.norm1.weight"),
    ("a model of HunyuanVideo", "context_embedder.token_refiner.refiner_blocks.0.norm1.weight"),
    ("a model of Chroma", "*distilled_guidance_layer.*"),
    ("a Flux.2 model", "single_stream_modulation.lin.weight"),
    ("a Flux.2 model", "single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight"),
    ("a Flux model", "double_blocks.0.img_attn.norm.key_norm.scale"),
    ("a model of AuraFlow", "double_layers.0.attn.w1q.weight"),
    ("a model of AuraFlow", "joint_transformer_blocks.0.attn.to_q.weight"),
    ("a Flux model", "single_transformer_blocks.0.attn.to_q.weight"),
    ("a model of Hunyuan-DiT", "mlp_t5.0.weight"),
    ("a SANA model", "blocks.0.mlp.inverted_conv.conv.weight"),
    ("a SANA model", "transformer_blocks.0.ff.conv_inverted.weight"),
    ("a PixArt model", "t_block.1.weight"),
    ("a PixArt model", "adaln_single.emb.timestep_embedder.linear_1.bias", "pos_embed.proj.bias"),
    ("a model of LTX-Video", "patchify_proj.weight"),
    ("a model of Kandinsky 5", "visual_transformer_blocks.0.self_attention.to_query.weight"),
    ("a model of Wan", "head.modulation"),
    ("a model of Wan", "condition_embedder.text_embedder.linear_1.weight"),
    ("a model of Qwen-Image", "transformer_blocks.0.img_mod.1.weight"),
    ("a Lumina 2 or Z-Image model", "cap_embedder.1.weight"),
    ("a model of HiDream", "caption_projection.0.linear.weight"),
    ("a model of Mochi", "t5_yproj.weight"),
    ("a model of CogVideoX", "blocks.0.norm1.linear.weight"),
    ("a model of CogVideoX", "patch_embed.text_proj.weight"),
    ("a model of Cosmos", "x_embedder.proj.1.weight"),
    # Autoencoders
    ("the VAE of Wan", "decoder.middle.0.residual.0.gamma"),
    ("a deep compression autoencoder", "decoder.stages.1.op_list.0.main.conv.conv.bias"),
    ("a deep compression autoencoder", "encoder.down_blocks.0.0.conv1.weight"),
    ("a VAE for video", "decoder.conv_in.conv.weight"),
    ("a consistency decoder", "decoder_unet.conv_in.weight"),
    ("a VQ autoencoder", "*quantize.embedding.weight"),
    # Others that lie in the same folders
    ("an upscaler", "model.1.sub.0.RDB1.conv1.0.weight"),
    ("an upscaler", "body.0.rdb1.conv1.weight"),
    ("a CLIP text encoder", "text_model.encoder.layers.0.self_attn.q_proj.weight"),
    ("a CLIP image encoder", "vision_model.encoder.layers.0.self_attn.q_proj.weight"),
    ("a T5 text encoder", "encoder.block.0.layer.0.SelfAttention.q.weight"),
    ("a language model", "model.layers.0.self_attn.q_proj.weight"),
)
# Keys of a model of any kind whose weights have been replaced by codes.
_QUANTISED = ("*.absmax", "*.qweight", "*.scale_weight", "scaled_fp8")


def foreign_file(file: SafetensorsFile) -> ForeignFile | None:
    """The kind of file that it is, if sdrt knows and does not read it."""
    for names in _without_prefixes(file.tensors):
        for title, *wanted in _ROWS:
            if all(_has(names, key) for key in wanted):
                return ForeignFile(title)
        if any(_has(names, key) for key in _QUANTISED):
            remedy = "give the file that it was quantised from, in float16, bfloat16 or float32"
            return ForeignFile("a quantised model", remedy)
    return None


def _without_prefixes(keys: Collection[str]) -> Iterator[Collection[str]]:
    for prefix in _PREFIXES:
        names = {key.removeprefix(prefix) for key in keys if key.startswith(prefix)}
        if names:
            yield names


def _has(names: Collection[str], wanted: str) -> bool:
    return bool(matching(names, wanted)) if "*" in wanted else wanted in names
