"""Keys of LoRA files: the layer that each belongs to, and the role of its tensor there.

The spellings are those of diffusers (old and new), peft, kohya's sd-scripts, LyCORIS and ComfyUI.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sdrt.adapters.cloneofsimo import NUMBERED
from sdrt.tensor_names import TEXT_ENCODER, TEXT_ENCODER_2, UNET

PARTS: Final = (UNET, TEXT_ENCODER, TEXT_ENCODER_2)  # the models that a LoRA may change

# The ends of keys by the roles of their tensors; a group in the pattern is the role.
_ENDS: Final = (
    (r"(?:[._]lora\.down|\.lora_(?:linear_layer\.)?down|\.lora_A(?:\.\w+)?)\.weight", "down"),
    (r"(?:[._]lora\.up|\.lora_(?:linear_layer\.)?up|\.lora_B(?:\.\w+)?)\.weight", "up"),
    (r"\.lora_B(?:\.\w+)?\.bias", "up_bias"),
    (r"\.lora_mid\.weight", "mid"),
    (r"(?:[._]lora)?\.alpha", "alpha"),
    (r"\.lora_magnitude_vector(?:\.\w+)*", "magnitude"),
    (r"\.(dora_scale)", ""),
    (r"\.(hada_(?:w[12]_[ab]|t[12]))", ""),
    (r"\.(lokr_(?:w[12](?:_[ab])?|t2))", ""),
    (r"\.(diff|diff_b|w_norm|b_norm)", ""),
)
_END: Final = tuple((re.compile(f"(.+?){pattern}"), role) for pattern, role in _ENDS)

# The beginnings of keys: the models that they may mean, and whether underscores stand for dots.
_BEGINNINGS: Final = (
    ("lora_unet_", (UNET,), True),
    ("lora_te1_", (TEXT_ENCODER,), True),
    ("lora_te2_", (TEXT_ENCODER_2,), True),
    ("lora_te_", (TEXT_ENCODER,), True),
    ("lycoris_", (UNET,), True),
    ("unet.", (UNET,), False),
    ("diffusion_model.", (UNET,), False),
    ("text_encoder.", (TEXT_ENCODER,), False),
    ("text_encoder_2.", (TEXT_ENCODER_2,), False),
    ("text_encoders.clip_l.transformer.", (TEXT_ENCODER,), False),
    ("text_encoders.clip_g.transformer.", (TEXT_ENCODER_2,), False),
    ("", PARTS, False),
)
PEFT: Final = "base_model.model."


@dataclass(frozen=True)
class Key:
    """A key of a LoRA file.

    Fields:
        layer: what the keys of one layer have in common
        role: of the tensor in the layer's formula: "down", "up", "alpha", "hada_w1_a"
    """

    layer: str
    role: str


@dataclass(frozen=True)
class Spelling:
    """The meaning of a layer's key: the models that it may be in, and its name there."""

    parts: tuple[str, ...]
    name: str
    flat: bool  # underscores instead of dots


def key_from_text(text: str) -> Key | None:
    """The parts of a key; None if it is not one of a LoRA."""
    if numbered := NUMBERED.fullmatch(text):
        return Key(numbered[1], numbered[2])
    for pattern, role in _END:
        if found := pattern.fullmatch(text):
            return Key(found[1], role or found[2])
    return None


def spelling_of(layer: str) -> Spelling:
    """The models and the name in a layer's key, without what trainers put around names."""
    text = layer.removeprefix(PEFT)
    beginning, parts, flat = next(row for row in _BEGINNINGS if text.startswith(row[0]))
    name = text.removeprefix(beginning).removeprefix(PEFT)
    return Spelling(parts, name.replace(".processor", ""), flat)
