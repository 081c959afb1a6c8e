"""A pipeline's networks as Python functions: every number in an image is traceable."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL.Image import Image

from sdrt import Bundle, Pipeline
from sdrt.bundle.manifest import Component, FileRecord, Manifest
from sdrt.families.family import DenoiserFacts, Encoder, Family, LatentSpace, TextRecipe
from sdrt.families.known import ROLES
from sdrt.targets.engines import Engines
from sdrt_engines import Array, FunctionEngine, Signature, resolve_target
from support.onnx_writer import spec

Function: TypeAlias = Callable[[dict[str, Array]], dict[str, Array]]
CIRCLE, STAR, BLURRY = "a red circle", "a small blue star", "blurry"
NUM_LAYERS = 2  # of the text encoder
WIDTH = 3  # of its states
STATES = ("last_hidden_state", *(f"normed_hidden_states.{i}" for i in range(NUM_LAYERS + 1)))
LATENTS = ("B", 4, "h", "w")

STABLE_DIFFUSION_1 = Family(
    name="stable-diffusion-1",
    text=TextRecipe((Encoder("text_encoder", "tokenizer"),)),
    latents=LatentSpace(4, 8, 0.18215),
    denoiser=DenoiserFacts(),
    defaults={"guidance_scale": 7.5, "num_inference_steps": 50, "height": 128, "width": 128},
)
TEXT_ENCODER = Signature(
    (spec("input_ids", "int64", "B", 77),),
    tuple(spec(name, "float32", "B", 77, WIDTH) for name in STATES),
)
UNET = Signature(
    (
        spec("sample", "float32", *LATENTS),
        spec("timestep", "float32", "B"),
        spec("encoder_hidden_states", "float32", "B", "L", WIDTH),
    ),
    (spec("out_sample", "float32", *LATENTS),),
)
DISTILLED_UNET = Signature((*UNET.inputs, spec("timestep_cond", "float32", "B", 16)), UNET.outputs)
VAE_DECODER = Signature(
    (spec("latent_sample", "float32", *LATENTS),), (spec("sample", "float32", "B", 3, "H", "W"),)
)


def encode(feeds: dict[str, Array]) -> dict[str, Array]:
    """States that differ for each text, token and layer."""
    tokens = np.sin(feeds["input_ids"])[..., None]  # (B, 77, 1)
    last = np.repeat(tokens, WIDTH, axis=2).astype(np.float32)
    layers = {f"normed_hidden_states.{i}": last * (i - NUM_LAYERS) + i for i in range(3)}
    return {"last_hidden_state": last, **layers}


def predict(feeds: dict[str, Array]) -> dict[str, Array]:
    """A prediction that depends on the sample, the timestep and the text, row by row."""
    text = feeds["encoder_hidden_states"].mean(axis=(1, 2))[:, None, None, None]
    timestep = np.float32(feeds["timestep"] / 1000).reshape(-1, 1, 1, 1)
    sample = feeds["sample"] * (timestep + np.float32(0.5)) + text
    return {"out_sample": sample / (1 + abs(sample))}


def decode(feeds: dict[str, Array]) -> dict[str, Array]:
    """Three of the four channels, each pixel repeated eight by eight times."""
    latents = feeds["latent_sample"][:, :3] / 20
    return {"sample": latents.repeat(8, axis=2).repeat(8, axis=3)}


VAE_ENCODER = Signature(
    (spec("sample", "float32", "B", 3, "H", "W"),),
    (spec("latent_parameters", "float32", "B", 8, "h", "w"),),
)
RESIDUALS = (
    spec("down_block_residuals.0", "float32", *LATENTS),
    spec("down_block_residuals.1", "float32", "B", 4, "ceil(h/2)", "ceil(w/2)"),
    spec("mid_block_residual", "float32", "B", 4, "ceil(h/2)", "ceil(w/2)"),
)
CONTROLLED_UNET = Signature((*UNET.inputs, *RESIDUALS), UNET.outputs)
INPAINTING_UNET = Signature(
    (spec("sample", "float32", "B", 9, "h", "w"), *UNET.inputs[1:]), UNET.outputs
)


def controlnet(num_channels: int) -> Signature:
    cond = spec("controlnet_cond", "float32", "B", num_channels, "8*h", "8*w")
    scale = spec("conditioning_scale", "float32", "B", len(RESIDUALS))
    earlier = (replace(residual, name=f"earlier.{residual.name}") for residual in RESIDUALS)
    return Signature((*UNET.inputs, cond, scale, *earlier), RESIDUALS)


def encode_image(feeds: dict[str, Array]) -> dict[str, Array]:
    """The upper left pixel of every eight by eight; log-variances of -2."""
    small = feeds["sample"][:, [0, 1, 2, 0], ::8, ::8]
    return {"latent_parameters": np.concatenate([small, np.full_like(small, -2)], axis=1)}


def control(feeds: dict[str, Array]) -> dict[str, Array]:
    """The control image's brightness, at the residuals' sizes, scaled and added."""
    scales = feeds["conditioning_scale"].T[..., None, None, None]  # (N, B, 1, 1, 1)
    return {
        name: feeds[f"earlier.{name}"] + scale * residual
        for scale, (name, residual) in zip(scales, brightness(feeds).items(), strict=True)
    }


def brightness(feeds: dict[str, Array]) -> dict[str, Array]:
    """The residuals before `control` scales and adds them."""
    grey = feeds["controlnet_cond"].mean(axis=1, keepdims=True).repeat(4, axis=1)
    coarse = grey[:, :, ::16, ::16]
    return {
        "down_block_residuals.0": grey[:, :, ::8, ::8],
        "down_block_residuals.1": coarse,
        "mid_block_residual": coarse * 2,
    }


def predict_controlled(feeds: dict[str, Array]) -> dict[str, Array]:
    coarse = (feeds["down_block_residuals.1"] + feeds["mid_block_residual"]).mean((2, 3))
    extra = feeds["down_block_residuals.0"] + coarse[..., None, None]
    return {"out_sample": predict(feeds)["out_sample"] + extra / 10}


NETWORKS = {
    "text_encoder": (TEXT_ENCODER, encode),
    "unet": (UNET, predict),
    "vae_decoder": (VAE_DECODER, decode),
}
OUTPUT = {"text_encoder": "last_hidden_state", "unet": "out_sample", "vae_decoder": "sample"}


class Networks:
    """The engines of a pipeline, those of text to image and `others`, with their feeds."""

    def __init__(self, **others: tuple[Signature, Function]) -> None:
        networks = NETWORKS | others
        self.feeds: dict[str, list[dict[str, Array]]] = {name: [] for name in networks}
        self.engines = {
            name: FunctionEngine(signature, self._recorded(name, function), name=name)
            for name, (signature, function) in networks.items()
        }

    @property
    def num_runs(self) -> dict[str, int]:
        return {name: len(feeds) for name, feeds in self.feeds.items()}

    def _recorded(self, name: str, function: Function) -> Function:
        def run(feeds: dict[str, Array]) -> dict[str, Array]:
            self.feeds[name].append({key: np.array(value) for key, value in feeds.items()})
            return function(feeds)

        return run


def bundle_of(networks: Networks) -> Bundle:
    """A bundle of these networks, without files."""
    components = tuple(
        Component(
            name=name,
            role=ROLES.get(name, "controlnet" if name.startswith("controlnet") else "denoiser"),
            model=f"{name}/model.onnx",
            signature=engine.signature,
            precision="float32",
            files=(FileRecord(f"{name}/model.onnx", None, 1),),
        )
        for name, engine in networks.engines.items()
    )
    manifest = Manifest(
        family=STABLE_DIFFUSION_1,
        components=components,
        files=(),
        source="tests",
        tools={},
        created="2025-11-20T23:00:00+00:00",
    )
    return Bundle(Path("nowhere"), manifest)


def engines_of(networks: Networks) -> Engines:
    return Engines(bundle_of(networks), resolve_target("cpu"), networks.engines)


def pipeline_of(
    folder: Path, networks: Networks, facts: DenoiserFacts | None = None, **defaults: object
) -> Pipeline:
    """A pipeline with these networks instead of the bundle's; `facts` are the denoiser's."""
    bundle = Bundle.open(folder)
    family = replace(bundle.family, denoiser=facts or bundle.family.denoiser)
    manifest = replace(bundle.manifest, family=family, defaults=defaults)
    return Pipeline(replace(bundle, manifest=manifest), resolve_target("cpu"), networks.engines)


def pixels(images: Iterable[Image]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])  # (B, H, W, 3)
