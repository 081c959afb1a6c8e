"""diffusers' `clip_skip` with either generation of transformers."""

from __future__ import annotations

from typing import Any


def repair_clip_skip(pipeline: Any) -> Any:
    """The same pipeline, with a `text_model` in which `clip_skip` finds the text encoder's norm.

    In transformers 5 CLIPTextModel is that model itself, and diffusers 0.42.1 fails with
    "'CLIPTextModel' object has no attribute 'text_model'". With transformers 4 nothing changes.
    """
    encoder = pipeline.text_encoder
    if encoder is not None and not hasattr(encoder, "text_model"):
        object.__setattr__(encoder, "text_model", encoder)  # not a submodule: it would hold itself
    return pipeline
