"""Stable Diffusion 1.5 with seeded random weights: as torch modules and as a folder of ONNX files.

`work/torch/` holds the weights, `work/<network>/` the graphs as exported, in the layout that
`Bundle.open` reads, `work/half/` and `work/fused/` the graphs of `sdrt build --target cuda`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, PNDMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from gpu_bench.context import CONTROLNET
from sdrt.families.known import ROLES
from sdrt_engines import Array, Signature, engine_from_onnx, signature_from_onnx
from sdrt_export.fusing.fused_graph import PASSES, Pass, write_fused
from sdrt_export.networks.controlnet import ControlledUNet, ControlNet
from sdrt_export.networks.network import Network
from sdrt_export.networks.text_encoder import TextEncoder
from sdrt_export.networks.unet import UNet
from sdrt_export.networks.vae import VaeDecoder, VaeEncoder
from sdrt_export.precision.float_graph import float_graph_from_model
from sdrt_export.precision.policy import rules_for
from sdrt_export.precision.typed_graph import half_from_float, kept_by_rules, load_for, write_typed
from sdrt_export.synthetic import MODEL_INDEX, SD15, Architecture, _draw, _write_tokenizer
from sdrt_export.tracing.onnx_from_network import write_variants

SMALL = Architecture(
    SD15.text_encoder
    | {"hidden_size": 96, "intermediate_size": 96, "num_hidden_layers": 2, "projection_dim": 96},
    SD15.unet | {"block_out_channels": (64, 128, 128, 128), "cross_attention_dim": 96},
    SD15.vae | {"block_out_channels": (64, 64, 64, 64)},
    SD15.scheduler,
)
FAMILY = "stable-diffusion-1"


def architecture(small: bool) -> Architecture:
    return SMALL if small else SD15


def make_modules(sizes: Architecture, device: str) -> dict[str, nn.Module]:
    """Text encoder, UNet, VAE and ControlNet in float16 on `device`, with random weights."""
    text_encoder = CLIPTextModel(CLIPTextConfig(**sizes.text_encoder))
    with torch.device("meta"):
        unet = UNet2DConditionModel(**sizes.unet)
        vae = AutoencoderKL(**sizes.vae)
        controlnet = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
    modules = {
        "text_encoder": text_encoder.half().to(device),
        **{
            name: module.to_empty(device=device).half()
            for name, module in (("unet", unet), ("vae", vae), (CONTROLNET, controlnet))
        },
    }
    random = torch.Generator().manual_seed(0)
    on_device = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for module in modules.values():
            for name, weight in module.state_dict().items():
                if weight.ndim < 2:
                    weight.copy_(_draw(name, weight, random))
                else:
                    weight.normal_(generator=on_device).div_(weight[0].numel() ** 0.5)
    return modules


def save_modules(modules: dict[str, nn.Module], work: Path) -> None:
    (work / "torch").mkdir(parents=True, exist_ok=True)
    for name, module in modules.items():
        torch.save({k: v.cpu() for k, v in module.state_dict().items()}, work / f"torch/{name}.pt")


def write_small_files(sizes: Architecture, work: Path) -> None:
    """The files that a bundle and diffusers' pipeline read in addition to the networks."""
    PNDMScheduler(**sizes.scheduler).save_pretrained(work / "scheduler")
    if not (work / "tokenizer").exists():
        _write_tokenizer(work / "tokenizer", sizes.text_encoder["max_position_embeddings"])
    (work / "model_index.json").write_text(json.dumps(MODEL_INDEX))


def load_modules(sizes: Architecture, work: Path, device: str) -> dict[str, nn.Module]:
    """The modules that `save_modules` saved."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**sizes.unet)
        modules: dict[str, nn.Module] = {
            "unet": unet,
            "vae": AutoencoderKL(**sizes.vae),
            CONTROLNET: ControlNetModel.from_unet(unet, load_weights_from_unet=False),
        }
    modules["text_encoder"] = CLIPTextModel._from_config(
        CLIPTextConfig(**sizes.text_encoder), attn_implementation="eager"
    )
    for name, module in modules.items():
        weights = torch.load(work / f"torch/{name}.pt", map_location=device, mmap=device == "cpu")
        assign = name != "text_encoder"  # it has a buffer that is not in the checkpoint
        module.load_state_dict(weights, assign=assign, strict=assign)
    return {name: module.half().to(device).eval() for name, module in modules.items()}


def write_folder(
    sizes: Architecture, work: Path, chosen: Sequence[str], report: Callable[[str], None]
) -> None:
    """The chosen networks in ONNX, in the layout of a bundle without hashes."""
    modules = load_modules(sizes, work, "cpu")
    for name in chosen:
        (work / name).mkdir(exist_ok=True)
        networks = _networks(modules, sizes, name)
        config = (
            {k: v for k, v in networks[0].model.config.items() if _is_plain(v)}
            if ("vae" in name or name == "unet")
            else {}
        )
        (work / name / "config.json").write_text(json.dumps(config))
        write_variants(networks, work / name, "fp16")
        write_built(work, name)
        report(f"{name} written")


def _networks(modules: dict[str, nn.Module], sizes: Architecture, name: str) -> list[Network]:
    match name:
        case "text_encoder":
            return [TextEncoder(modules[name])]
        case "unet":
            return [UNet(modules[name]), ControlledUNet(modules[name])]
        case "vae_decoder":
            return [VaeDecoder(_copy(modules["vae"], sizes))]
        case "vae_encoder":
            return [VaeEncoder(_copy(modules["vae"], sizes))]
    return [ControlNet(modules[name], "edges")]


def _copy(vae: nn.Module, sizes: Architecture) -> nn.Module:
    copy = AutoencoderKL(**sizes.vae)
    copy.load_state_dict(vae.state_dict())
    return copy


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool | list | tuple | type(None))


def write_built(work: Path, name: str) -> None:
    """The result of `sdrt build --target cuda` for a network, without trying it out."""
    half = _emptied(work / "half" / name)
    graph = float_graph_from_model(load_for(work / name / "model.onnx", "fp16"))
    kept = kept_by_rules(graph, rules_for(FAMILY, ROLES.get(name, "controlnet"), {}))
    write_typed(half_from_float(graph, "fp16", kept), work / name, half)
    write_with(work, name, "fused", PASSES)


def write_with(work: Path, name: str, kind: str, passes: tuple[Pass, ...]) -> Path:
    """The half-precision graph after these passes."""
    return write_fused(work / "half" / name / "model.onnx", _emptied(work / kind / name), passes)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def feeds_for(signature: Signature, sizes: dict[str, int], seed: int = 0) -> dict[str, Array]:
    """Seeded inputs; `sizes` names the dimensions of the signature."""
    random = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for spec in signature.inputs:
        shape = tuple(dim if isinstance(dim, int) else _size(dim, sizes) for dim in spec.shape)
        if spec.dtype.kind == "i":
            feeds[spec.name] = random.integers(0, 400, shape).astype(spec.dtype)
        elif spec.name == "timestep":
            feeds[spec.name] = np.linspace(900, 20, shape[0], dtype=np.float32)
        elif "scale" in spec.name:
            feeds[spec.name] = np.ones(shape, np.float32)
        else:
            factor = 0.1 if len(spec.name.split("_")) > 3 else 1  # residuals are small
            feeds[spec.name] = factor * random.standard_normal(shape).astype(np.float32)
    return feeds


def _size(dim: str, sizes: dict[str, int]) -> int:
    """`8*height`, `ceil(height/2)` or a name."""
    text = dim.replace("ceil(", "-(-").replace("/", "//")
    return int(eval(text, {}, sizes))


def latents_of(name: str, latents: int, rows: int) -> dict[str, int]:
    """The sizes of a network's open dimensions."""
    scale = 8 if name == "vae_encoder" else 1
    return {
        "batch": 1 if "vae" in name else rows,
        "height": latents * scale,
        "width": latents * scale,
        "sequence": 77,
    }


def write_references(
    work: Path, chosen: Sequence[str], latents: int, report: Callable[[str], None]
) -> None:
    """The outputs of each network on the CPU in float32."""
    (work / "expected").mkdir(exist_ok=True)
    for name in chosen:
        path = work / name / "model.onnx"
        feeds = feeds_for(signature_from_onnx(path), latents_of(name, latents, 2))
        with engine_from_onnx(path) as engine:
            np.savez(work / f"expected/{name}.npz", **engine.run(feeds))
        report(f"{name} run on the CPU")
