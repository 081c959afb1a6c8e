"""LoRAs for whole models, by their headers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from sdrt.adapters.found import FamilyName, ForeignFile, Found, LoraFile
from sdrt.adapters.recognition import recognised
from sdrt.adapters.safetensors import SafetensorsFile
from support.lora_layouts import kohya, loha, lokr, old_diffusers, peft, text_layers, unet_layers
from support.model_layouts import SD1, SD2, SDXL, UnetLayout
from support.weights_files import Tensor, write_weights

WIDTHS = pytest.mark.parametrize(
    ("layout", "family"),
    [(SD1, "stable-diffusion-1"), (SD2, "stable-diffusion-2"), (SDXL, "stable-diffusion-xl")],
    ids=["sd1", "sd2", "sdxl"],
)
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "style.safetensors"


def found_in(path: Path, tensors: Mapping[str, Tensor]) -> Found:
    return recognised(SafetensorsFile.open(write_weights(path, tensors)))


def test_kohya_for_sd1_with_its_text_encoder(path: Path) -> None:
    shapes = kohya(unet_layers(SD1), "lora_unet", 16)
    shapes |= kohya(text_layers(768, 12), "lora_te", 16)
    found = found_in(path, shapes)
    assert found == LoraFile(
        family="stable-diffusion-1",
        format="kohya",
        methods=("LoRA",),
        parts=("unet", "text_encoder"),
        num_layers=192 + 72,
        ranks=(16,),
        alphas=(0,),
        convolutions=False,
    )
    assert found.title == "a LoRA for Stable Diffusion 1"


def test_kohya_for_sdxl_with_both_text_encoders(path: Path) -> None:
    shapes = kohya(unet_layers(SDXL), "lora_unet", 8, "ldm")
    shapes |= kohya(text_layers(768, 12), "lora_te1", 8)
    shapes |= kohya(text_layers(1280, 32), "lora_te2", 4)
    found = found_in(path, shapes)
    assert found == LoraFile(
        family="stable-diffusion-xl",
        format="kohya",
        methods=("LoRA",),
        parts=("unet", "text_encoder", "text_encoder_2"),
        num_layers=722 + 72 + 192,
        ranks=(4, 8),
        alphas=(0,),
        convolutions=False,
    )


@WIDTHS
@pytest.mark.parametrize("prefix", ["", "unet.", "base_model.model.", "base_model.model.unet."])
def test_peft(layout: UnetLayout, family: FamilyName, prefix: str, path: Path) -> None:
    found = found_in(path, peft(unet_layers(layout), prefix, 4))
    assert isinstance(found, LoraFile)
    assert (found.family, found.format, found.parts) == (family, "peft", ("unet",))
    assert (found.ranks, found.alphas) == ((4,), ())


@WIDTHS
def test_diffusers_before_peft(layout: UnetLayout, family: FamilyName, path: Path) -> None:
    found = found_in(path, old_diffusers(unet_layers(layout), "unet.", 4))
    assert isinstance(found, LoraFile)
    assert (found.family, found.format, found.parts) == (family, "diffusers", ("unet",))


def test_text_encoders_of_diffusers(path: Path) -> None:
    """Without a UNet only the second encoder shows the family."""
    first = peft(text_layers(768, 12), "text_encoder.", 4)
    found = found_in(path, first)
    assert isinstance(found, LoraFile)
    assert (found.family, found.parts) == (None, ("text_encoder",))
    found = found_in(path, first | peft(text_layers(1280, 32), "text_encoder_2.", 4))
    assert isinstance(found, LoraFile)
    assert (found.family, found.parts) == (
        "stable-diffusion-xl",
        ("text_encoder", "text_encoder_2"),
    )


def test_names_of_comfyui(path: Path) -> None:
    shapes = peft(unet_layers(SD1), "diffusion_model.", 4)
    shapes |= peft(text_layers(768, 12), "text_encoders.clip_l.transformer.", 4)
    found = found_in(path, shapes)
    assert isinstance(found, LoraFile)
    assert (found.family, found.parts) == ("stable-diffusion-1", ("unet", "text_encoder"))


def test_an_adapter_that_peft_calls_by_a_name(path: Path) -> None:
    shapes = {
        f"base_model.model.{ATTENTION}.lora_A.style.weight": (4, 768),
        f"base_model.model.{ATTENTION}.lora_B.style.weight": (320, 4),
    }
    found = found_in(path, shapes)
    assert isinstance(found, LoraFile)
    assert (found.family, found.format) == ("stable-diffusion-1", "peft")


@pytest.mark.parametrize("width", [768, 1024])
def test_cloneofsimo(width: int, path: Path) -> None:
    """Its layers are numbered: attention of a level, and of the text."""
    shapes = {
        f"unet:{n}:{role}": shape
        for n, reads in enumerate((320, width, 320, 640, width, 1280))
        for role, shape in (("up", (320, 4)), ("down", (4, reads)))
    }
    shapes |= {"text_encoder:0:up": (width, 4), "text_encoder:0:down": (4, width)}
    found = found_in(path, shapes)
    assert isinstance(found, LoraFile)
    assert found.format == "cloneofsimo"
    assert found.parts == ("unet", "text_encoder")
    assert found.family == f"stable-diffusion-{1 if width == 768 else 2}"


def test_convolutions_and_ranks_that_differ(path: Path) -> None:
    shapes = kohya(unet_layers(SD1, resnets=True), "lora_unet", 8)
    found = found_in(path, shapes)
    assert isinstance(found, LoraFile)
    assert found.convolutions
    assert found.num_layers == 192 + 22 * 3 + 14  # conv1, conv2, time_emb_proj; conv_shortcut


def test_alphas_are_read(path: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for number, alpha in enumerate((4.0, 0.5, 4.0)):
        name = f"lora_unet_down_blocks_0_attentions_{number}_proj_in"
        tensors |= {f"{name}.lora_down.weight": (4, 320), f"{name}.lora_up.weight": (320, 4)}
        tensors[f"{name}.alpha"] = np.array(alpha, np.float32)
    found = found_in(path, tensors)
    assert isinstance(found, LoraFile)
    assert found.alphas == (0.5, 4.0)
    assert found.family is None  # no layer reads the text


@WIDTHS
def test_loha_and_lokr(layout: UnetLayout, family: FamilyName, path: Path) -> None:
    for shapes, method in (
        (loha(unet_layers(layout), 4), "LoHa"),
        (lokr(unet_layers(layout), 4), "LoKr"),
    ):
        found = found_in(path, shapes)
        assert isinstance(found, LoraFile)
        assert (found.methods, found.format) == ((method,), "lycoris")
        assert (found.family, found.ranks) == (family, (4,))


KOHYA = f"lora_unet_{ATTENTION.replace('.', '_')}"
PAIR = {f"{KOHYA}.lora_down.weight": (4, 768), f"{KOHYA}.lora_up.weight": (320, 4)}


@pytest.mark.parametrize(
    ("more", "methods"),
    [
        ({f"{KOHYA}.dora_scale": (320, 1)}, ("LoRA", "DoRA")),
        ({f"{KOHYA}.lora_mid.weight": (4, 4, 3, 3)}, ("LoRA",)),
        ({"lora_unet_conv_in.diff": (320, 4, 3, 3)}, ("LoRA", "full weights")),
        ({"lora_unet_conv_in.diff_b": (320,)}, ("LoRA", "full weights")),
        ({"lora_unet_mid_block_resnets_0_norm1.w_norm": (1280,)}, ("LoRA", "full weights")),
    ],
)
def test_methods_combined_with_a_lora(
    more: dict[str, Tensor], methods: tuple[str, ...], path: Path
) -> None:
    found = found_in(path, PAIR | more)
    assert isinstance(found, LoraFile)
    assert found.methods == methods
    assert found.family == "stable-diffusion-1"
    assert found.convolutions == any(len(t) == 4 for t in more.values())


@pytest.mark.parametrize(
    ("tensors", "method"),
    [
        ({f"{KOHYA}.a1.weight": (4, 4), f"{KOHYA}.b1.weight": (4, 4)}, "GLoRA"),
        ({f"{KOHYA}.oft_blocks": (8, 40, 40), f"{KOHYA}.alpha": ()}, "OFT"),
        ({f"oft_unet_{ATTENTION.replace('.', '_')}.oft_blocks": (8, 40, 40)}, "OFT"),
        ({f"{KOHYA}.weight": (320,), f"{KOHYA}.on_input": ()}, "IA3"),
        ({f"base_model.model.{ATTENTION}.lora_magnitude_vector": (320,)}, "DoRA"),
    ],
)
def test_methods_of_their_own(tensors: dict[str, Tensor], method: str, path: Path) -> None:
    found = found_in(path, tensors)
    assert isinstance(found, LoraFile)
    assert (found.methods, found.parts) == ((method,), ("unet",))
    assert found.title == f"a LoRA of the kind {method} for an unknown family"


def test_embeddings_in_the_same_file(path: Path) -> None:
    more = {
        "bundle_emb.my word.string_to_param.*": (2, 768),
        "bundle_emb.v1.1.clip_l": (2, 768),
        "bundle_emb.v1.1.clip_g": (2, 1280),
    }
    found = found_in(path, PAIR | more)
    assert isinstance(found, LoraFile)
    assert found.embeddings == ("my word", "v1.1")


@pytest.mark.parametrize(
    ("layer", "model"),
    [
        ("lora_unet_double_blocks_0_img_attn_proj", "Flux or HunyuanVideo"),
        ("transformer.single_transformer_blocks.0.attn.to_k", "Flux or HunyuanVideo"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", "SD3"),
        ("transformer.transformer_blocks.0.attn.add_k_proj", "SD3"),
        ("diffusion_model.blocks.0.cross_attn.k", "Wan"),
        ("lora_unet_blocks_0_ffn_0", "Wan"),
        ("transformer.transformer_blocks.0.img_mlp.net.0.proj", "Qwen-Image"),
        ("diffusion_model.layers.0.attention.to_q", "Lumina 2 or Z-Image"),
        ("transformer.transformer_blocks.0.attn1.to_k", "a transformer such as PixArt or SANA"),
        ("lora_prior_unet_down_blocks_0_2_attention_attn_out_proj", "Stable Cascade"),
        ("head.fc", "an unknown model, with layers such as 'head.fc'"),
    ],
)
def test_loras_for_other_models(layer: str, model: str, path: Path) -> None:
    for ends in (("lora_down", "lora_up"), ("lora_A", "lora_B")):
        shapes = {f"{layer}.{ends[0]}.weight": (4, 64), f"{layer}.{ends[1]}.weight": (64, 4)}
        found = found_in(path, shapes)
        assert found == ForeignFile(f"a LoRA for {model}")


def test_a_text_encoder_does_not_hide_the_model(path: Path) -> None:
    shapes = kohya(text_layers(768, 12), "lora_te1", 4) | {
        "lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": (4, 3072),
        "lora_unet_double_blocks_0_img_attn_proj.lora_up.weight": (3072, 4),
    }
    assert found_in(path, shapes) == ForeignFile("a LoRA for Flux or HunyuanVideo")


def test_shapes_that_no_lora_has(path: Path) -> None:
    found = found_in(path, {f"{KOHYA}.lora_down.weight": (), f"{KOHYA}.lora_up.weight": (4,)})
    assert isinstance(found, LoraFile)
    assert (found.family, found.ranks) == (None, ())
