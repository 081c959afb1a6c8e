"""CLIP's text encoder: in transformers' names, as in SD1, and OpenCLIP's, as in SD2 and SDXL.

Source: `FrozenOpenCLIPEmbedder` of ldm and sgm; diffusers' `single_file_utils.py`.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from sdrt_export.checkpoints.original.names import Key, Names, count_of, names_from_modules

_MODEL = "text_model"
PROJECTION = "text_projection.weight"  # of `CLIPTextModelWithProjection`

_OPEN_CLIP = {
    "token_embedding": f"{_MODEL}.embeddings.token_embedding",
    "positional_embedding": f"{_MODEL}.embeddings.position_embedding.weight",
    "ln_final": f"{_MODEL}.final_layer_norm",
}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "attn.out_proj": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")  # in the order in which `in_proj` joins them
_LAYERS = "transformer.resblocks"


def clip_names(keys: Collection[str]) -> dict[str, Key]:
    """The weights of a text encoder in transformers' names, from keys without their prefix.

    Old files lack "text_model.". Position ids are constants, and averages of them in merged files.
    """
    return {
        f"{_MODEL}.{key.removeprefix(f'{_MODEL}.')}": Key(key)
        for key in keys
        if re.match(rf"({_MODEL}\.)?(embeddings|encoder|final_layer_norm)\.", key)
        and not key.endswith(".position_ids")
    }


def open_clip_names(keys: Collection[str]) -> dict[str, Key]:
    """The weights of a text encoder in OpenCLIP's names, from keys without their prefix."""
    modules = dict(_OPEN_CLIP)
    joined = {}
    for number in range(count_of(_LAYERS, keys)):
        old, new = f"{_LAYERS}.{number}", f"{_MODEL}.encoder.layers.{number}"
        modules |= {f"{old}.{part}": f"{new}.{name}" for part, name in _OPEN_CLIP_LAYER.items()}
        for kind in ("weight", "bias"):
            key = f"{old}.attn.in_proj_{kind}"
            for third, name in enumerate(_PROJECTIONS):
                joined[f"{new}.self_attn.{name}.{kind}"] = Key(key, third)
    names = names_from_modules(keys, modules)
    names |= {name: key for name, key in joined.items() if key.key in keys}
    if "text_projection" in keys:
        names[PROJECTION] = Key("text_projection", transposed=True)
    return names


def first_layers(names: Names, count: int) -> dict[str, Key]:
    """The names without those of the layers after the first ones."""
    later = re.compile(_MODEL + r"\.encoder\.layers\.(\d{1,6})\.")
    return {
        name: key
        for name, key in names.items()
        if not ((layer := later.match(name)) and int(layer[1]) >= count)
    }
