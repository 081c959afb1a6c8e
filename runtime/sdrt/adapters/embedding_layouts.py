"""Textual inversions, recognised by their keys.

Sources: AUTOMATIC1111's `textual_inversion.py`, kohya's `train_textual_inversion.py`, diffusers'
`loaders/textual_inversion.py` and its examples of training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain

from sdrt.adapters.found import EmbeddingFile, FamilyName
from sdrt.adapters.safetensors import SafetensorsFile

_KEYS = (  # one for each text encoder
    ("emb_params",),
    ("string_to_param.*",),
    ("clip_l", "clip_g"),
    ("text_encoders_0", "text_encoders_1"),
)
_FAMILIES: Mapping[tuple[int, ...], FamilyName] = {  # by the widths of the text encoders
    (768,): "stable-diffusion-1",
    (1024,): "stable-diffusion-2",
    (768, 1280): "stable-diffusion-xl",
    (1280,): "stable-diffusion-xl",
}
_NO_TOKENS = {"*", *chain.from_iterable(_KEYS)}  # all other keys are the token itself: diffusers


def embedding_file(file: SafetensorsFile) -> EmbeddingFile | None:
    """The textual inversion that the file is, or None."""
    keys = _keys(file)
    shapes = [file.tensors[key].shape for key in keys]
    if not keys or not all(len(shape) in (1, 2) for shape in shapes):
        return None
    widths = tuple(shape[-1] for shape in shapes)
    return EmbeddingFile(
        family=_FAMILIES.get(widths),
        keys=keys,
        widths=widths,
        num_vectors=math.prod(shapes[0][:-1]),
        token=None if keys[0] in _NO_TOKENS else keys[0],
    )


def _keys(file: SafetensorsFile) -> tuple[str, ...]:
    """The keys of an embedding, in the order of the text encoders; none if it is something else."""
    for known in _KEYS:
        if set(file.tensors) <= set(known):
            return tuple(key for key in known if key in file.tensors)
    return tuple(file.tensors) if len(file.tensors) == 1 else ()
