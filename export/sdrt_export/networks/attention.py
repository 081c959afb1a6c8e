"""Attention written out for tracing: projections, two matrix products and a softmax."""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention


class PlainAttention:
    """Computes the same as diffusers' `AttnProcessor2_0`, with a simpler graph when traced.

    Traced, diffusers' own processors compute head sizes and the scale from tensor shapes in the
    graph: a dozen nodes per attention that engines do not fold, and that run on the CPU even if the
    rest runs on a GPU. Here heads and scale are numbers. Masks and the norms of newer models do not
    occur in Stable Diffusion.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,  # (B, L, D); (B, D, h, w) in the VAE
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        x = hidden_states
        if x.ndim == 4:
            x = x.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            x = attn.group_norm(x.transpose(1, 2)).transpose(1, 2)
        x = attend(attn, x, x if encoder_hidden_states is None else encoder_hidden_states)
        if hidden_states.ndim == 4:
            x = x.transpose(1, 2).reshape(hidden_states.shape)
        if attn.residual_connection:
            x = x + hidden_states
        return x if attn.rescale_output_factor == 1 else x / attn.rescale_output_factor


def attend(attn: Attention, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """softmax(QKᵀ / √d) V and the output projection, (B, L, D)."""
    head_dim = attn.inner_dim // attn.heads

    def split_heads(projected: torch.Tensor) -> torch.Tensor:  # (B, heads, L, d)
        heads = projected.reshape(projected.shape[0], -1, attn.heads, head_dim)
        return heads.transpose(1, 2)

    query = split_heads(attn.to_q(x) * attn.scale)
    key, value = split_heads(attn.to_k(context)), split_heads(attn.to_v(context))
    weights = (query @ key.transpose(-1, -2)).softmax(-1)  # (B, heads, L, L of the context)
    attended = (weights @ value).transpose(1, 2)  # (B, L, heads, d)
    merged = attended.reshape(attended.shape[0], -1, attn.inner_dim)
    return attn.to_out[0](merged)  # to_out[1] is dropout
