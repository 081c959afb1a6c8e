"""LoRAs and their relatives, recognised by the ends of their keys; the rest of a key names a layer.

Sources: kohya's `networks/lora.py` and `oft.py`, the weights that each class in LyCORIS' `modules/`
lists, diffusers' and peft's `save_lora_weights`, cloneofsimo's `lora.py`, AUTOMATIC1111's
`networks.py` for embeddings in the same file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias

from sdrt.adapters.found import FamilyName, ForeignFile, LoraFile, LoraFormat, Part
from sdrt.adapters.safetensors import SafetensorsFile
from sdrt.errors import quoted


@dataclass(frozen=True)
class _End:
    """What a tensor is in its layer, by the end of its key."""

    role: str
    method: str | None = "LoRA"  # None: any
    format: LoraFormat | None = None  # None: any


def _ends_of(method: str, *roles: str) -> dict[str, _End]:
    return {f".{role}": _End(role, method) for role in roles}


_ENDS: Mapping[str, _End] = {
    ".alpha": _End("alpha", method=None),
    ".lora_down.weight": _End("down", format="kohya"),
    ".lora_up.weight": _End("up", format="kohya"),
    ".lora_mid.weight": _End("mid", format="kohya"),
    ".lora_A.weight": _End("down", format="peft"),
    ".lora_B.weight": _End("up", format="peft"),
    ".lora_A.default.weight": _End("down", format="peft"),
    ".lora_B.default.weight": _End("up", format="peft"),
    "_lora.down.weight": _End("down", format="diffusers"),
    "_lora.up.weight": _End("up", format="diffusers"),
    ".lora.down.weight": _End("down", format="diffusers"),
    ".lora.up.weight": _End("up", format="diffusers"),
    ".lora_linear_layer.down.weight": _End("down", format="diffusers"),
    ".lora_linear_layer.up.weight": _End("up", format="diffusers"),
    ":down": _End("down", format="cloneofsimo"),
    ":up": _End("up", format="cloneofsimo"),
    **_ends_of("DoRA", "dora_scale", "lora_magnitude_vector", "lora_magnitude_vector.weight"),
    **_ends_of("LoHa", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    **_ends_of("LoKr", "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_t1"),
    **_ends_of("LoKr", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    **_ends_of("GLoRA", "a1.weight", "a2.weight", "b1.weight", "b2.weight", "bm.weight"),
    **_ends_of("OFT", "oft_blocks", "oft_r", "oft_R.weight", "boft_R", "boft_s", "rescale"),
    **_ends_of("IA3", "on_input", "ia3_l"),
    **_ends_of("full weights", "diff", "diff_b", "w_norm", "b_norm"),
}
_Found: TypeAlias = tuple[str, _End, str]  # a layer's name, what a tensor is in it, its key
_KEY = re.compile(f"(.+?)({'|'.join(map(re.escape, _ENDS))})")
_BUNDLED = "bundle_emb."  # and the name of an embedding

# The numbers that a layer reads are as many as one axis of these, or of two of them multiplied.
_INPUTS = (
    (("down",),),
    (("hada_w1_b",),),
    (("lokr_w1", "lokr_w1_b"), ("lokr_w2", "lokr_w2_b")),
    (("diff",),),
)
_RANKS = ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")
_KERNELS = ("down", "mid", "hada_t1", "lokr_w2", "lokr_t2", "diff")

# Layers by their names, in which a point counts as an underscore, as kohya writes it.
_OWNER = "^(?:base_model_model_|diffusion_model_|lora_|lycoris_|oft_|unet_|model_)*"
_PARTS: Mapping[Part, re.Pattern[str]] = {
    "unet": re.compile(
        f"{_OWNER}(?:unet:|(?:down|up|input|output)_blocks_|mid(?:dle)?_block_|conv_(?:in|out)$|"
        "time_embed|add_embedding_|label_emb_|out_)"
    ),
    "text_encoder": re.compile(f"{_OWNER}(?:te1?_|text_encoder[_:](?!2)|text_model_)"),
    "text_encoder_2": re.compile(f"{_OWNER}(?:te2_|text_encoder_2_)"),
}
_OTHERS = {
    "AnimateDiff": "motion_modules_",
    "Stable Cascade": "^lora_prior_",
    "Flux or HunyuanVideo": "double_blocks_|single_blocks_|single_transformer_blocks_",
    "SD3": "joint_blocks_|^transformer_transformer_blocks_[0-9]+_attn_add_[qkv]_proj",
    "Qwen-Image": "transformer_blocks_[0-9]+_(?:img|txt)_m",
    "Wan": f"{_OWNER}blocks_[0-9]+_(?:self_attn|cross_attn|attn1|attn2|ffn)",
    "Lumina 2 or Z-Image": f"{_OWNER}layers_[0-9]+_(?:attention|feed_forward)",
    "a transformer such as PixArt or SANA": f"{_OWNER}(?:transformer_)*blocks_[0-9]",
}
_PROMPT_LAYER = re.compile("attn2_(?:processor_)?to_[kv]$")
_FAMILIES: Mapping[int, FamilyName] = {  # by the width of the text that a UNet reads
    768: "stable-diffusion-1",
    1024: "stable-diffusion-2",
    1280: "stable-diffusion-xl-refiner",
    2048: "stable-diffusion-xl",
}
# Blocks of several transformers, kohya's names for it, and two text encoders: only SDXL has them.
_XL = re.compile(
    "transformer_blocks_[1-9]|^lora_unet_(?:(?:in|out)put_blocks|middle_block)_|"
    "^lora_te2_|^text_encoder_2_"
)


@dataclass(frozen=True)
class _Layer:
    """The shapes of a layer's tensors, by their roles."""

    name: str  # with underscores in place of points
    shapes: dict[str, tuple[int, ...]]

    def axis(self, roles: Iterable[str], axis: int) -> int | None:
        """The size of an axis of the first of these tensors that is there."""
        found = (self.shapes[role] for role in roles if role in self.shapes)
        return next((shape[axis] for shape in found if axis < len(shape)), None)

    @property
    def inputs(self) -> int | None:
        """The width of what the layer reads; None if its shapes do not tell."""
        for factors in _INPUTS:
            sizes = [self.axis(roles, 1) for roles in factors]
            if None not in sizes:
                return math.prod(size for size in sizes if size)
        return None

    @property
    def is_convolution(self) -> bool:
        """True if its kernel is larger than 1×1."""
        return any(math.prod(self.shapes.get(role, ())[2:]) > 1 for role in _KERNELS)


def lora_file(file: SafetensorsFile) -> LoraFile | ForeignFile | None:
    """The LoRA that the file is, or None; a LoRA for another kind of model is a foreign file."""
    keys = [key for key in file.tensors if not key.startswith(_BUNDLED)]
    found = [(match[1], _ENDS[match[2]], key) for key in keys if (match := _KEY.fullmatch(key))]
    methods = tuple(dict.fromkeys(end.method for _, end, _ in found if end.method))
    if not methods:
        return None
    layers = list(_layers(file, found))
    if other := _other_model(layers):
        return ForeignFile(f"a LoRA for {other}")
    formats = (end.format for _, end, _ in found if end.format)
    ranks = {rank for layer in layers if (rank := layer.axis(_RANKS, 0)) is not None}
    return LoraFile(
        family=_family(layers),
        format=next(formats, "lycoris"),
        methods=methods,
        parts=tuple(part for part in _PARTS if any(_PARTS[part].search(it.name) for it in layers)),
        num_layers=len(layers),
        ranks=tuple(sorted(ranks)),
        alphas=tuple(sorted(_alphas(file, found))),
        convolutions=any(layer.is_convolution for layer in layers),
        embeddings=tuple(sorted(_bundled(file))),
    )


def _layers(file: SafetensorsFile, found: Sequence[_Found]) -> Iterator[_Layer]:
    for name, same in groupby(sorted(found, key=itemgetter(0)), key=itemgetter(0)):
        shapes = {end.role: file.tensors[key].shape for _, end, key in same}
        yield _Layer(name.replace(".", "_"), shapes)


def _other_model(layers: Sequence[_Layer]) -> str | None:
    """The kind of model that has such layers, if it is not one that sdrt reads."""
    for title, pattern in _OTHERS.items():
        if any(re.search(pattern, layer.name) for layer in layers):
            return title
    known = any(pattern.search(layer.name) for pattern in _PARTS.values() for layer in layers)
    return None if known else f"an unknown model, with layers such as {quoted(layers[0].name)}"


def _family(layers: Sequence[_Layer]) -> FamilyName | None:
    """The family by the width of the text that a UNet reads, else by the names of its layers."""
    widths = {layer.inputs for layer in layers if _PROMPT_LAYER.search(layer.name)}
    if not widths:  # cloneofsimo's layers have numbers in place of names
        numbered = {layer.inputs for layer in layers if layer.name.startswith("unet:")}
        widths = numbered & {768, 1024}  # no other layer of SD1 or SD2 is that wide
    if len(widths) == 1:
        return _FAMILIES.get(widths.pop() or 0)
    is_xl = not widths and any(_XL.search(layer.name) for layer in layers)
    return "stable-diffusion-xl" if is_xl else None


def _alphas(file: SafetensorsFile, found: Sequence[_Found]) -> set[float]:
    keys = (key for _, end, key in found if end.role == "alpha")
    return {float(number) for key in keys for number in file.read(key).reshape(-1)}


def _bundled(file: SafetensorsFile) -> set[str]:
    names = (key.removeprefix(_BUNDLED) for key in file.tensors if key.startswith(_BUNDLED))
    return {re.split(r"\.(?:string_to_param|emb_params|clip_[lg])", name)[0] for name in names}
