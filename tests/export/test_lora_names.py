"""The keys of LoRA files at full size, in each trainer's layout: every layer is found, once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from sdrt.adapters.lora import Lora
from sdrt.adapters.lora_layers import LowRank
from sdrt.adapters.lora_on_models import changes_of
from sdrt.adapters.module_names import spellings
from sdrt_export.architectures import SD15, SD21, SDXL, Architecture
from sdrt_export.networks.empty_model import empty_model
from support.lora_files import (
    Array,
    Layer,
    diffusers,
    diffusers_old,
    kohya,
    kohya_xl,
    peft,
    write_lora,
)
from support.weights_files import write_weights

pytestmark = pytest.mark.export

ARCHITECTURES = {"SD1.5": SD15, "SD2.1": SD21, "SDXL": SDXL}
ORIGINAL = re.compile(r"(in|out)put_blocks|middle_block|out\.|time_embed\.|label_emb")
# The layers that kohya's `train_network.py` changes: the linear ones of transformer blocks, of
# attentions and of MLPs. Those of SD1.5 and SDXL are 192 and 722 in the UNet.
TRAINED = re.compile(
    r".*attentions\.\d+\.(proj_in|proj_out|.*(to_[qkv]|to_out\.0|net\.0\.proj|net\.2))"
    r"|.*\.(self_attn\.\w+|mlp\.fc[12])"
)


def _config(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not name.startswith("_")}


@cache
def models_of(name: str) -> dict[str, nn.Module]:
    found: Architecture = ARCHITECTURES[name]
    second = found.text_encoder_2
    made: dict[str, Callable[[], nn.Module]] = {
        "unet": lambda: UNet2DConditionModel(**_config(found.unet)),
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**_config(found.text_encoder or {}))),
    }
    if second is not None:
        made["text_encoder_2"] = lambda: CLIPTextModelWithProjection(CLIPTextConfig(**second))
    return {part: empty_model(make) for part, make in made.items()}


def shapes_of(name: str) -> dict[str, dict[str, tuple[int, ...]]]:
    return {
        part: {weight: tuple(tensor.shape) for weight, tensor in model.state_dict().items()}
        for part, model in models_of(name).items()
    }


def modules_of(name: str, pattern: re.Pattern[str] | None = TRAINED) -> Iterator[tuple[str, str]]:
    """The linear layers and convolutions of the models with such a name."""
    for part, model in models_of(name).items():
        for module, layer in model.named_modules():
            known = isinstance(layer, nn.Linear | nn.Conv2d)
            if known and (pattern is None or pattern.fullmatch(module)):
                yield part, module


def layers_of(name: str, modules: Iterable[tuple[str, str]]) -> list[Layer]:
    shapes, layers = shapes_of(name), []
    for part, module in modules:
        out, *rest = shapes[part][f"{module}.weight"]
        up = np.zeros((out, 1, *(1 for _ in rest[1:])), np.float16)
        layers.append(Layer(part, module, np.zeros((1, *rest), np.float16), up, 1.0))
    return layers


def found_in(path: Path, name: str) -> set[tuple[str, str]]:
    changes = changes_of(Lora.open(path), shapes_of(name))
    return {(part, weight.removesuffix(".weight")) for part in changes for weight in changes[part]}


@pytest.mark.parametrize(
    ("name", "layout", "number"),
    [
        ("SD1.5", kohya, 192 + 72),
        ("SD1.5", diffusers, 192 + 72),
        ("SD2.1", kohya, 192 + 138),
        ("SDXL", kohya_xl, 722 + 72 + 192),
        ("SDXL", diffusers, 722 + 72 + 192),
    ],
)
def test_what_kohya_trains(
    tmp_path: Path, name: str, layout: Callable[[Layer], Mapping[str, Array]], number: int
) -> None:
    modules = list(modules_of(name))
    assert len(modules) == number
    path = write_lora(tmp_path / "a.safetensors", layers_of(name, modules), layout)
    assert found_in(path, name) == set(modules)


@pytest.mark.parametrize("name", ["SD1.5", "SDXL"])
def test_any_layer_may_be_trained(tmp_path: Path, name: str) -> None:
    modules = list(modules_of(name, None))
    layout = kohya_xl if name == "SDXL" else kohya
    path = write_lora(tmp_path / "a.safetensors", layers_of(name, modules), layout)
    assert found_in(path, name) == set(modules)


def original_names(name: str) -> dict[str, str]:
    """The modules of the UNet by their names in the original code."""
    modules = {weight.rpartition(".")[0] for weight in shapes_of(name)["unet"]}
    return {
        spelled: module
        for spelled, module in spellings(modules).items()
        if ORIGINAL.match(spelled) and not spelled.endswith(".to_out")
    }


@pytest.mark.parametrize("name", ["SD1.5", "SD2.1", "SDXL"])
def test_original_names_are_those_that_diffusers_reads(name: str) -> None:
    original, kinds = original_names(name), ("weight", "bias")
    assert set(original.values()) == {n.rpartition(".")[0] for n in shapes_of(name)["unet"]}
    checkpoint = {f"model.diffusion_model.{o}.{kind}": o for o in original for kind in kinds}
    theirs = convert_ldm_unet_checkpoint(checkpoint, dict(models_of(name)["unet"].config))
    assert theirs == {f"{m}.{kind}": o for o, m in original.items() for kind in kinds}


def test_kohya_names_sdxl_s_layers_as_the_original_code(tmp_path: Path) -> None:
    modules = list(modules_of("SDXL"))
    names = {module: spelled for spelled, module in original_names("SDXL").items()}
    layers = [
        replace(layer, module=names[layer.module]) if layer.part == "unet" else layer
        for layer in layers_of("SDXL", modules)
    ]
    assert any(
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.alpha" in kohya_xl(layer)
        for layer in layers
    )
    path = write_lora(tmp_path / "a.safetensors", layers, kohya_xl)
    assert found_in(path, "SDXL") == set(modules)


def test_old_names_of_diffusers(tmp_path: Path) -> None:
    modules = list(modules_of("SD1.5", re.compile(r".*attn[12]\.to_.*|.*self_attn\..*")))
    path = write_lora(tmp_path / "a.safetensors", layers_of("SD1.5", modules), diffusers_old)
    assert found_in(path, "SD1.5") == set(modules)
    assert len(modules) == 128 + 48


def test_peft_does_not_name_the_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 4, "r": 1}')
    for part in models_of("SDXL"):
        modules = [module for module in modules_of("SDXL") if module[0] == part]
        path = write_lora(tmp_path / "a.safetensors", layers_of("SDXL", modules), peft)
        assert found_in(path, "SDXL") == set(modules)


LINEAR = ("to_q", "to_k", "to_v", "to_out.0")


def _numbered(inner: Iterable[str]) -> Iterator[str]:
    """The UNet's layers in cloneofsimo's order: SD1.5 has transformers in three blocks."""
    down = [f"down_blocks.{block}.attentions.{n}" for block in (0, 1, 2) for n in (0, 1)]
    up = [f"up_blocks.{block}.attentions.{n}" for block in (1, 2, 3) for n in (0, 1, 2)]
    for transformer in (*down, *up, "mid_block.attentions.0"):
        for place in inner:
            for layer in ("net.0.proj",) if place == "ff" else LINEAR:
                yield f"{transformer}.transformer_blocks.0.{place}.{layer}"


@pytest.mark.parametrize("inner", ["attn1 ff attn2", "attn1 attn2 ff", "attn1 attn2"])
def test_the_numbers_of_cloneofsimo(tmp_path: Path, inner: str) -> None:
    in_text = (module for part, module in modules_of("SD1.5") if "self_attn" in module)
    order = ("k_proj", "v_proj", "q_proj", "out_proj")
    numbered = {
        "unet": list(_numbered(inner.split())),
        "text_encoder": sorted(
            in_text, key=lambda m: (number_in(m), order.index(m.split(".")[-1]))
        ),
    }
    tensors: dict[str, Array] = {}
    for part, modules in numbered.items():
        layers = layers_of("SD1.5", [(part, module) for module in modules])
        for number, layer in enumerate(layers):
            tensors |= {f"{part}:{number}:up": layer.up, f"{part}:{number}:down": layer.down}
    lora = Lora.open(write_weights(tmp_path / "a.safetensors", tensors))
    changes = changes_of(lora, shapes_of("SD1.5"))
    for part, modules in numbered.items():
        updates = [changes[part][f"{module}.weight"].update for module in modules]
        assert len(changes[part]) == len(modules)
        for number, update in enumerate(updates):
            assert isinstance(update, LowRank)
            assert update.up.name == f"{part}:{number}:up"


def number_in(module: str) -> int:
    return int(re.findall(r"\d+", module)[0])
