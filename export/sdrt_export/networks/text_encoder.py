"""The text encoder as a network."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sdrt import tensor_names as names
from sdrt_engines import Signature, TensorSpec
from sdrt_export.networks.network import Network, TraceSize, float32


class TextEncoder(Network):
    """CLIP's text encoder, with each layer's states before and after the final layer norm.

    Source: `CLIPTextModel` of transformers.
    """

    name = names.TEXT_ENCODER
    role = "text encoder"
    summaries: tuple[str, ...] = (names.LAST_HIDDEN_STATE, names.POOLER_OUTPUT)

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        config = model.config
        tokens = ("batch", config.max_position_embeddings)
        states = (*tokens, config.hidden_size)
        layers = range(config.num_hidden_layers + 1)
        summaries = {
            names.LAST_HIDDEN_STATE: states,
            names.POOLER_OUTPUT: ("batch", config.hidden_size),
            names.TEXT_EMBEDS: ("batch", config.projection_dim),
        }
        self.signature = Signature(
            inputs=(TensorSpec(names.INPUT_IDS, np.dtype(np.int64), tokens),),
            outputs=(
                *(float32(name, *summaries[name]) for name in self.summaries),
                *(float32(names.hidden_state(i), *states) for i in layers),
                *(float32(names.normed_hidden_state(i), *states) for i in layers),
            ),
        )

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.model(input_ids, output_hidden_states=True)
        summaries = (output[name] for name in self.summaries)
        norm = _submodule(self.model, "final_layer_norm")
        return *summaries, *output.hidden_states, *map(norm, output.hidden_states)

    def inputs_at(self, size: TraceSize, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        config = self.model.config
        tokens = (size.batch, config.max_position_embeddings)
        return (torch.randint(config.vocab_size, tokens, generator=random),)


class ProjectedTextEncoder(TextEncoder):
    """The same with a projected vector for the whole text: SDXL's second encoder.

    Source: `CLIPTextModelWithProjection` of transformers.
    """

    name = names.TEXT_ENCODER_2
    summaries = (names.TEXT_EMBEDS, names.LAST_HIDDEN_STATE)


def _submodule(model: nn.Module, name: str) -> nn.Module:
    """The submodule of that name, at any depth: transformers has moved them between versions."""
    return next(found for path, found in model.named_modules() if path.split(".")[-1] == name)
