"""Merged LoRAs compared with diffusers' `load_lora_weights` and `fuse_lora`, weight by weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict

from checkpoints import tiny_pipeline
from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.checkpoints.loras import Source, loras_from_sources
from sdrt_export.networks.loading import parts_from_checkpoint, parts_with_loras
from support.lora_files import (
    Layer,
    diffusers,
    diffusers_old,
    kohya,
    kohya_xl,
    layers_for,
    write_lora,
)

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`"),  # of several LoRAs
    pytest.mark.filterwarnings("ignore:.*LoRA tensor.* have invalid shape"),  # of biases
]

TOLERANCE = 1e-5
# In diffusers 0.39 the alphas of kohya's attention layers are lost if they differ, and without
# alphas all layers get the strength of the first one: such files have formulas as their oracle.
ONE_ALPHA = ((2, 1.5), (3, 1.5), (1, 1.5), (4, 1.5))
ONE_RANK = ((3, None),)


def models_of(pipe: Any) -> Iterator[tuple[str, Any]]:
    for part in ("unet", "text_encoder", "text_encoder_2"):
        if getattr(pipe, part, None) is not None:
            yield part, getattr(pipe, part)


def layers_of(
    pipe: Any, strengths: Sequence[tuple[int, float | None]], names: Sequence[str] = ("",)
) -> list[Layer]:
    """A LoRA of every linear layer and convolution that has one of these texts in its name."""
    layers = []
    for part, model in models_of(pipe):
        modules = {
            published(part, name): tuple(module.weight.shape)
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
            and any(text in name for text in names)
        }
        shapes = {f"{name}.weight": shape for name, shape in modules.items()}
        layers += layers_for(part, shapes, modules, strengths)
    return layers


def published(part: str, module: str) -> str:
    """The module's name in files: those of text encoders begin with a module that transformers 5
    has removed."""
    if part == "unet" or module.startswith(("text_model.", "text_projection")):
        return module
    return f"text_model.{module}"


def fused(pipe: Any, *loras: tuple[Path, float]) -> dict[str, Any]:
    """The models as diffusers changes them."""
    for number, (file, _) in enumerate(loras):
        pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name=f"a{number}")
    pipe.set_adapters([f"a{number}" for number in range(len(loras))], [s for _, s in loras])
    pipe.fuse_lora(components=[part for part, _ in models_of(pipe)])
    pipe.unload_lora_weights()
    return dict(models_of(pipe))


def assert_equal(checkpoint: Path, theirs: dict[str, Any], *loras: tuple[Source, float]) -> None:
    parts = parts_from_checkpoint(checkpoint_from_source(checkpoint))
    ours = {p.kind.folder: p for p in parts_with_loras(parts, loras_from_sources(loras))}
    plain = {part.kind.folder: part.weights() for part in parts}
    for part, model in theirs.items():
        weights, changed = ours[part].weights(), 0
        for name, weight in model.state_dict().items():
            difference = (weights[name].float() - weight).abs().max()
            assert difference < TOLERANCE, f"{part}.{name}: {difference}"
            changed += not torch.equal(weight, plain[part][name])
        assert changed, part


def full(*values: str) -> list[Any]:
    return [pytest.param(value, marks=pytest.mark.full) for value in values]


@pytest.mark.parametrize("family", ["xl", *full("classic", "sd2_v")])
def test_every_layer_of_kohya(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    pipe = tiny_pipeline(family)
    # which diffusers reads only under its original name
    layers = [x for x in layers_of(pipe, ONE_ALPHA) if "add_embedding" not in x.module]
    layout = kohya_xl if family == "xl" else kohya
    lora = write_lora(tmp_path / "a.safetensors", layers, layout), 0.8
    assert_equal(tiny_checkpoint(family), fused(pipe, lora), lora)


def test_every_layer_of_diffusers(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    pipe = tiny_pipeline("xl")
    lora = write_lora(tmp_path / "a.safetensors", layers_of(pipe, ONE_RANK), diffusers), 1.0
    assert_equal(tiny_checkpoint("xl"), fused(pipe, lora), lora)


def test_several_at_once_and_negative(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    pipe = tiny_pipeline("classic")
    attention = layers_of(pipe, ONE_RANK, ["attn1.to", "attn2.to", "self_attn"])
    files = (
        write_lora(tmp_path / "a.safetensors", layers_of(pipe, ONE_ALPHA)),
        write_lora(tmp_path / "b.safetensors", attention, diffusers_old),
        write_lora(tmp_path / "c.safetensors", attention[::2], diffusers),
    )
    loras = tuple(zip(files, (0.8, -1.5, 0.25), strict=True))
    assert_equal(tiny_checkpoint("classic"), fused(pipe, *loras), *loras)


CONFIG = LoraConfig(
    r=4,
    lora_alpha=6,
    target_modules=["to_q", "to_v", "conv1", "proj_in", "ff.net.2"],
    rank_pattern={"to_v": 2, "conv1": 3},
    alpha_pattern={"attn2.to_q": 1, "conv1": 0.5},
    init_lora_weights=False,  # random ones instead of zeros
)
KINDS = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "bias": {
        "lora_bias": True,
        "target_modules": ["conv1", "proj_in", "ff.net.2"],
        "rank_pattern": {},
        "alpha_pattern": {},
    },
}


def config_of(kind: str) -> LoraConfig:
    return LoraConfig(**(CONFIG.to_dict() | KINDS[kind]))


@pytest.mark.parametrize("kind", ["plain", "DoRA", *full("rank-stabilised", "bias")])
def test_what_diffusers_saves(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    pipe = tiny_pipeline("classic")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        pipe.unet.add_adapter(config_of(kind))
    pipe.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(pipe.unet),
        unet_lora_adapter_metadata=pipe.unet.peft_config["default"].to_dict(),
    )
    lora = tmp_path / "pytorch_lora_weights.safetensors", 0.75
    theirs = fused(tiny_pipeline("classic"), lora)
    assert_equal(tiny_checkpoint("classic"), {"unet": theirs["unet"]}, lora)


@pytest.mark.parametrize("kind", ["plain", "DoRA", *full("rank-stabilised", "bias")])
def test_what_peft_saves(tiny_checkpoint: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = get_peft_model(tiny_pipeline("classic").unet, config_of(kind))
    model.save_pretrained(tmp_path)
    unet = model.merge_and_unload()
    assert_equal(tiny_checkpoint("classic"), {"unet": unet}, (tmp_path, 1.0))
