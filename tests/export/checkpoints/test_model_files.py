"""ControlNets and VAEs in single files: the same models as in diffusers' folders."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file

from sdrt.families.family import LatentSpace
from sdrt_export.checkpoints.checkpoint import Checkpoint, checkpoint_from_source
from sdrt_export.checkpoints.controlnet import controlnets_from_sources
from sdrt_export.checkpoints.controlnet_compatibility import host_of_folder
from sdrt_export.checkpoints.vae import tiny_vae_from_source, with_other_vae
from sdrt_export.errors import CheckpointError
from sdrt_export.networks.loading import (
    MODELS,
    Part,
    part_from_controlnet,
    parts_from_checkpoint,
    parts_from_vae,
)
from support.original_layout import Weights, original_vae, save
from support.original_names import original_unet, prefixed

pytestmark = pytest.mark.export

WEIGHTS = "diffusion_pytorch_model.safetensors"


def controlnet(source: Path, checkpoint: Path) -> Part:
    (net,) = controlnets_from_sources({"edges": source}, host_of_folder(checkpoint, "it"))
    return part_from_controlnet(net)


def config_of(part: Part) -> dict[str, Any]:
    """Its configuration as torch reads it, without what depths mean on levels without attention."""
    with torch.device("meta"):
        config = dict(MODELS[part.kind].from_config(part.config.parent, {}).config)
    config.pop("transformer_layers_per_block", None)
    public = {name: value for name, value in config.items() if not name.startswith("_")}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in public.items()}


def assert_equal(file: Part, folder: Part) -> None:
    assert config_of(file) == config_of(folder)
    given, expected = file.weights(), folder.weights()
    assert given.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(given[name], weight), name


def spellings(weights: Weights) -> dict[str, Weights]:
    """The same ControlNet as each program writes it."""
    original = original_unet(weights)
    prefix = prefixed("control_model.", original)
    return {
        "diffusers": weights,
        "original": original,
        "prefix": prefix,
        "with its model": prefix | {"model.diffusion_model.out.0.weight": torch.ones(4)},
    }


@pytest.mark.parametrize(
    ("recipe", "name", "spelling"),
    [
        ("classic", "edges", "diffusers"),
        ("classic", "depth", "original"),
        ("classic", "edges", "prefix"),
        ("classic", "edges", "with its model"),
        ("sd2_odd", "edges", "original"),
    ],
)
def test_controlnets(
    recipe: str,
    name: str,
    spelling: str,
    tiny_checkpoint: Callable[[str], Path],
    tiny_controlnets: Callable[[str], dict[str, Path]],
    tmp_path: Path,
) -> None:
    folder = tiny_controlnets(recipe)[name]
    weights = spellings(load_file(folder / WEIGHTS))[spelling]
    file = controlnet(save(weights, tmp_path / "net.safetensors"), tiny_checkpoint(recipe))
    assert_equal(file, controlnet(folder, tiny_checkpoint(recipe)))


def test_controlnets_of_sdxl(
    tiny_checkpoint: Callable[[str], Path],
    tiny_controlnets: Callable[[str], dict[str, Path]],
) -> None:
    """diffusers publishes them in its own names."""
    folder, checkpoint = tiny_controlnets("xl")["edges"], tiny_checkpoint("xl")
    assert_equal(controlnet(folder / WEIGHTS, checkpoint), controlnet(folder, checkpoint))


def refusal(weights: Weights, checkpoint: Path, folder: Path) -> str:
    path = save(weights, folder / "net.safetensors")
    with pytest.raises(CheckpointError) as caught:
        controlnet(path, checkpoint)
    return str(caught.value).replace(str(path), "FILE")


def test_a_controlnet_of_another_family(
    tiny_checkpoint: Callable[[str], Path],
    tiny_controlnets: Callable[[str], dict[str, Path]],
    tmp_path: Path,
) -> None:
    weights = load_file(tiny_controlnets("sd2_odd")["edges"] / WEIGHTS)
    assert refusal(weights, tiny_checkpoint("classic"), tmp_path) == (
        "the ControlNet 'FILE' cannot be exported: it takes text vectors of 1024, the UNet of 8 "
        "(cross_attention_dim): it is made for another version of Stable Diffusion"
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["body.0.in_conv.weight"], "is a T2I-Adapter, expected a ControlNet: "),
        (["lora_controlnet"], "is a ControlNet-LoRA, expected a ControlNet: "),
    ],
)
def test_what_is_no_controlnet(
    keys: list[str], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    assert message in refusal({key: torch.ones(1) for key in keys}, checkpoint, tmp_path)


def test_a_controlnet_with_layers_of_its_own(
    checkpoint: Path, tiny_controlnets: Callable[[str], dict[str, Path]], tmp_path: Path
) -> None:
    weights = original_unet(load_file(tiny_controlnets("classic")["edges"] / WEIGHTS))
    assert "its ControlNet has extra.weight, which no ControlNet that sdrt exports has" in refusal(
        weights | {"extra.weight": torch.ones(1)}, checkpoint, tmp_path
    )


# --- VAEs


@pytest.fixture
def classic(checkpoint: Path) -> Checkpoint:
    return checkpoint_from_source(checkpoint)


@pytest.mark.parametrize(
    ("write", "prefix"),
    [(dict, ""), (original_vae, ""), (original_vae, "first_stage_model."), (dict, "vae.")],
)
def test_vaes(
    write: Callable[[Weights], Weights], prefix: str, classic: Checkpoint, tmp_path: Path
) -> None:
    weights = prefixed(prefix, write(load_file(classic.folder / "vae" / WEIGHTS)))
    other = with_other_vae(classic, save(weights, tmp_path / "vae.safetensors"))
    assert other.family == classic.family
    given, expected = (
        {part.name: part for part in parts_from_checkpoint(each)} for each in (other, classic)
    )
    assert_equal(given["vae_decoder"], expected["vae_decoder"])


def test_a_vae_in_a_checkpoint(classic: Checkpoint, sd1: Weights, tmp_path: Path) -> None:
    path = save(sd1, tmp_path / "model.safetensors")
    other = with_other_vae(classic, path)
    assert other.vae is not None and other.vae.weights.names is not None


def test_half_a_vae_is_refused(classic: Checkpoint, tmp_path: Path) -> None:
    weights = original_vae(load_file(classic.folder / "vae" / WEIGHTS))
    half = {key: weight for key, weight in weights.items() if "encoder" not in key}
    path = save(half, tmp_path / "vae.safetensors")
    with pytest.raises(CheckpointError, match=r"its VAE lacks encoder\.conv_in\.weight"):
        with_other_vae(classic, path)


def taesd(weights: Weights) -> Weights:
    """TAESD's own names, in one file: its decoder begins with a layer without weights."""
    originals = {}
    for name, weight in weights.items():
        half, _, number, rest = name.split(".", 3)
        shifted = int(number) + (half == "decoder")
        originals[f"taesd_{half}.{shifted}.{rest}"] = weight
    return originals


@pytest.mark.parametrize("write", [dict, taesd], ids=["diffusers", "taesd"])
def test_tiny_vaes(
    write: Callable[[Weights], Weights], classic: Checkpoint, tmp_path: Path
) -> None:
    weights = AutoencoderTiny().state_dict()
    path = save(write(weights), tmp_path / "taesd.safetensors")
    family = replace(classic.family, latents=LatentSpace(4, 8, 0.18215))
    (decoder, _) = parts_from_vae(tiny_vae_from_source(path, family))
    found = decoder.weights()
    assert found.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.equal(found[name], weight), name
