"""LoRAs and their relatives, recognised by the roles and layers in their keys.

Sources: kohya's `networks/lora.py` and `oft.py`, the weights that each class in LyCORIS' `modules/`
lists, diffusers' and peft's `save_lora_weights`, cloneofsimo's `lora.py`, AUTOMATIC1111's
`networks.py` for embeddings in the same file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sdrt.adapters.found import FamilyName, ForeignFile, LoraFile, LoraFormat, Part
from sdrt.adapters.lora_keys import PARTS, Key, key_from_text, spelling_of
from sdrt.adapters.safetensors import SafetensorsFile
from sdrt.errors import quoted

_METHODS = {  # by the roles of their tensors
    "LoRA": re.compile("down|up|mid"),
    "DoRA": re.compile("magnitude|dora_scale"),
    "LoHa": re.compile("hada_.*"),
    "LoKr": re.compile("lokr_.*"),
    "full weights": re.compile("diff|diff_b|w_norm|b_norm"),
}
_OTHER_METHODS = {  # whose keys sdrt only knows by sight
    "GLoRA": re.compile(r"(.+)\.([ab][12]|bm)\.weight"),
    "OFT": re.compile(r"(.+)\.(oft_blocks|oft_r|oft_R\.weight|boft_R|boft_s|rescale)"),
    "IA3": re.compile(r"(.+)\.(on_input|ia3_l)"),
}
_FORMATS: Mapping[LoraFormat, re.Pattern[str]] = {  # by the names of the two matrices of a LoRA
    "kohya": re.compile(r".*\.lora_(down|up)\.weight"),
    "peft": re.compile(r".*\.lora_[AB](\.\w+)?\.weight"),
    "diffusers": re.compile(r".*lora(_linear_layer)?\.(down|up)\.weight"),
    "cloneofsimo": re.compile(r".*:(down|up)"),
}
_BUNDLED = "bundle_emb."  # and the name of an embedding

# The width of what a layer reads is one axis of these tensors, or of two of them multiplied.
_INPUTS = (
    (("down",),),
    (("hada_w1_b",),),
    (("lokr_w1", "lokr_w1_b"), ("lokr_w2", "lokr_w2_b")),
    (("diff",),),
)
_RANKS = ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")
_KERNELS = ("down", "mid", "hada_t1", "lokr_w2", "lokr_t2", "diff")

# The names of layers below have underscores in place of points, as kohya writes them.
_UNET = re.compile(
    "(oft_)?(unet_)?(unet:|(down|up|input|output)_blocks_|mid(dle)?_block_|conv_(in|out)$|"
    "time_embed|add_embedding_|label_emb_|out_)"
)
_TEXT = re.compile("text_encoder:|text_model_|encoder_layers_|text_projection")
_OTHER_MODELS = {
    "AnimateDiff": re.compile(".*motion_modules_"),
    "Stable Cascade": re.compile("lora_prior_"),
    "Flux or HunyuanVideo": re.compile(
        ".*(double_blocks|single_blocks|single_transformer_blocks)_"
    ),
    "SD3": re.compile("joint_blocks_|transformer_transformer_blocks_[0-9]+_attn_add_[qkv]_proj"),
    "Qwen-Image": re.compile(".*transformer_blocks_[0-9]+_(img|txt)_m"),
    "Wan": re.compile("blocks_[0-9]+_(self_attn|cross_attn|attn1|attn2|ffn)"),
    "Lumina 2 or Z-Image": re.compile("layers_[0-9]+_(attention|feed_forward)"),
    "a transformer such as PixArt or SANA": re.compile("(transformer_)*blocks_[0-9]"),
}
_PROMPT_LAYER = re.compile(".*attn2_to_[kv]")
_FAMILIES: Mapping[int | None, FamilyName] = {  # by the width of the text that a UNet reads
    768: "stable-diffusion-1",
    1024: "stable-diffusion-2",
    1280: "stable-diffusion-xl-refiner",
    2048: "stable-diffusion-xl",
}
# Several transformers in a block, and kohya's names for blocks: only SDXL's UNet has them.
_XL = re.compile(r".*transformer_blocks[_.][1-9]|lora_unet_((in|out)put_blocks|middle_block)_")


@dataclass(frozen=True)
class _Layer:
    """The shapes of a layer's tensors, by their roles."""

    key: str  # what its keys have in common
    shapes: dict[str, tuple[int, ...]]

    @cached_property
    def name(self) -> str:
        """Its name in its model."""
        return spelling_of(self.key).name.replace(".", "_")

    @cached_property
    def part(self) -> Part | None:
        """The model that it is in; None if it is in none of Stable Diffusion's."""
        if _UNET.match(self.name):
            return "unet"
        if not _TEXT.match(self.name):
            return None
        second = spelling_of(self.key).parts == ("text_encoder_2",)
        return "text_encoder_2" if second else "text_encoder"

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
    keys = {text: key for text in file.tensors if (key := _key(text))}
    methods = _methods(keys)
    if not methods:
        return None
    layers = list(_layers(file, keys))
    if other := _other_model(layers):
        return ForeignFile(f"a LoRA for {other}")
    ranks = {rank for layer in layers if (rank := layer.axis(_RANKS, 0)) is not None}
    parts = {layer.part for layer in layers}
    return LoraFile(
        family=_family(layers),
        format=_format(keys),
        methods=methods,
        parts=tuple(part for part in PARTS if part in parts),
        num_layers=len(layers),
        ranks=tuple(sorted(ranks)),
        alphas=tuple(sorted(_alphas(file, keys))),
        convolutions=any(layer.is_convolution for layer in layers),
        embeddings=tuple(sorted(_bundled(file))),
    )


def _key(text: str) -> Key | None:
    """The parts of a key of a LoRA or of one of its relatives."""
    others = (pattern.fullmatch(text) for pattern in _OTHER_METHODS.values())
    other = next((Key(match[1], match[2]) for match in others if match), None)
    return key_from_text(text) or other


def _methods(keys: Mapping[str, Key]) -> tuple[str, ...]:
    """The methods that are mixed in a file, in the order in which they are known."""
    roles = {key.role for key in keys.values()}
    known = (name for name, of in _METHODS.items() if any(map(of.fullmatch, roles)))
    others = (name for name, of in _OTHER_METHODS.items() if any(map(of.fullmatch, keys)))
    return (*known, *others)


def _format(keys: Iterable[str]) -> LoraFormat:
    for name, pattern in _FORMATS.items():
        if any(map(pattern.fullmatch, keys)):
            return name
    return "lycoris"


def _layers(file: SafetensorsFile, keys: Mapping[str, Key]) -> Iterator[_Layer]:
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for text, key in keys.items():
        layers.setdefault(key.layer, {})[key.role] = file.tensors[text].shape
    return (_Layer(key, shapes) for key, shapes in layers.items())


def _other_model(layers: Sequence[_Layer]) -> str | None:
    """The kind of model that has such layers, if it is not one that sdrt reads."""
    for title, pattern in _OTHER_MODELS.items():
        if any(pattern.match(layer.name) for layer in layers):
            return title
    known = any(layer.part for layer in layers)
    return None if known else f"an unknown model, with layers such as {quoted(layers[0].key)}"


def _family(layers: Sequence[_Layer]) -> FamilyName | None:
    """The family by the width of the text that a UNet reads, else by the names of its layers."""
    widths = {layer.inputs for layer in layers if _PROMPT_LAYER.fullmatch(layer.name)}
    if not widths:  # cloneofsimo's layers have numbers in place of names
        numbered = {layer.inputs for layer in layers if layer.name.startswith("unet:")}
        widths = numbered & {768, 1024}  # no other layer of SD1 or SD2 is that wide
    if widths:
        return _FAMILIES.get(widths.pop()) if len(widths) == 1 else None
    is_xl = any(layer.part == "text_encoder_2" or _XL.match(layer.key) for layer in layers)
    return "stable-diffusion-xl" if is_xl else None


def _alphas(file: SafetensorsFile, keys: Mapping[str, Key]) -> set[float]:
    texts = (text for text, key in keys.items() if key.role == "alpha")
    return {float(number) for text in texts for number in file.read(text).reshape(-1)}


def _bundled(file: SafetensorsFile) -> set[str]:
    names = (key.removeprefix(_BUNDLED) for key in file.tensors if key.startswith(_BUNDLED))
    return {re.split(r"\.(?:string_to_param|emb_params|clip_[lg])", name)[0] for name in names}
