"""Prompts in, text embeddings out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sdrt import tensor_names as names
from sdrt.errors import RequestError
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt_engines import Engine

Array = npt.NDArray[np.float32]


def embed_prompts(
    tokenizer: ClipTokenizer,
    engine: Engine,
    prompts: Sequence[str],
    negative_prompts: Sequence[str] = (),
    clip_skip: int | None = None,
) -> Array:
    """The text encoder's view of the negative prompts, then of the prompts, (N + B, L, D).

    Equal prompts are encoded once. ``clip_skip`` leaves out that many of the last layers: the
    hidden state before them goes through the final layer norm. It holds for the prompts alone, as
    in diffusers' ``StableDiffusionPipeline.encode_prompt``.
    """
    skipped = _output_name(engine, clip_skip)
    wanted = [(names.LAST_HIDDEN_STATE, text) for text in negative_prompts]
    wanted += [(skipped, text) for text in prompts]
    outputs = list(dict.fromkeys(output for output, _ in wanted))
    texts = list(dict.fromkeys(text for _, text in wanted))
    spec = next(spec for spec in engine.signature.inputs if spec.name == names.INPUT_IDS)
    ids = tokenizer.encode_batch(texts).astype(spec.dtype)  # (U, L)
    states = engine.run({names.INPUT_IDS: ids}, outputs)  # (U, L, D) each
    return np.stack([states[output][texts.index(text)] for output, text in wanted])


def _output_name(engine: Engine, clip_skip: int | None) -> str:
    if not clip_skip:
        return names.LAST_HIDDEN_STATE
    available = {spec.name for spec in engine.signature.outputs}
    num_layers = sum(names.normed_hidden_state(i) in available for i in range(len(available))) - 1
    if num_layers < 0:
        raise RequestError(
            "clip_skip: this bundle's text encoder has no hidden states among its outputs (optimum "
            "does not export them); leave clip_skip out, or export with 'sdrt export'"
        )
    if clip_skip > num_layers:
        raise RequestError(
            f"clip_skip: got {clip_skip}, but this text encoder has only {num_layers} layers"
        )
    return names.normed_hidden_state(num_layers - clip_skip)
