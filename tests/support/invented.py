"""The networks and records of a family unlike any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sdrt.bundle.file_records import record_file
from sdrt.bundle.manifest import Component, FileRecord
from sdrt.families.family import (
    DenoiserFacts,
    Encoder,
    Family,
    LatentSpace,
    Role,
    TextRecipe,
)
from sdrt_engines import Array, Signature
from support.function_networks import Function, Networks
from support.onnx_writer import spec

CHANNELS, SCALE, WIDTH = 6, 4, 8
LATENTS = ("B", CHANNELS, "h", "w")
SHORT: dict[str, Any] = {"num_inference_steps": 3, "seed": 5}

FAMILY = Family(
    name="invented",
    text=TextRecipe(
        encoders=(
            Encoder("words", "tokenizer", layer=-2, normed=False),
            Encoder("meaning", "tokenizer_2", pooled="text_embeds"),
            Encoder("depths", "tokenizer_3", kind="t5", max_tokens=5, required=False),
        ),
        context=((0, 1), (2,)),
        pooled=(1,),
        width=WIDTH,
        missing_negative="zeros",
    ),
    latents=LatentSpace(CHANNELS, SCALE, 0.5, shift_factor=0.1, multiple=2),
    denoiser=DenoiserFacts("transformer", time_ids=("original_size", "crop", "target_size")),
    defaults={"guidance_scale": 4.0, "num_inference_steps": 9, "height": 24, "width": 32},
)
ROLES: dict[str, Role] = {
    "words": "text encoder",
    "meaning": "text encoder",
    "transformer": "denoiser",
    "coder": "vae encoder",
    "painter": "vae decoder",
}


def words(feeds: dict[str, Array]) -> dict[str, Array]:
    """States of width 3 that identify the layer."""
    states = np.sin(feeds["input_ids"])[..., None].repeat(3, axis=2).astype(np.float32)
    layers = {f"hidden_states.{i}": states + i for i in range(4)}
    return {"last_hidden_state": states + 99, **layers}


def meaning(feeds: dict[str, Array]) -> dict[str, Array]:
    """States of width 2, and a pooled vector of 5."""
    states = np.cos(feeds["input_ids"])[..., None].repeat(2, axis=2).astype(np.float32)
    layers = {f"normed_hidden_states.{i}": states * i for i in range(3)}
    pooled = states.mean(1).repeat(3, axis=1)[:, :5]
    return {"last_hidden_state": states, "text_embeds": pooled, **layers}


def denoise(feeds: dict[str, Array]) -> dict[str, Array]:
    steering = feeds["encoder_hidden_states"].mean((1, 2)) + feeds["text_embeds"].mean(1)
    steering += feeds["time_ids"].sum(1) / 1000 + feeds["timestep"] / 1000
    return {"out_sample": feeds["sample"] * 0.1 + steering[:, None, None, None] / 10}


def encode_image(feeds: dict[str, Array]) -> dict[str, Array]:
    small = feeds["sample"][:, [0, 1, 2, 0, 1, 2], ::SCALE, ::SCALE]
    return {"latent_parameters": np.concatenate([small, np.full_like(small, -4)], axis=1)}


def paint(feeds: dict[str, Array]) -> dict[str, Array]:
    return {"sample": feeds["latent_sample"][:, :3].repeat(SCALE, axis=2).repeat(SCALE, axis=3) / 9}


IDS = (spec("input_ids", "int64", "B", 77),)
NETWORKS: dict[str, tuple[Signature, Function]] = {
    "words": (
        Signature(
            IDS,
            (
                spec("last_hidden_state", "float32", "B", 77, 3),
                *(spec(f"hidden_states.{i}", "float32", "B", 77, 3) for i in range(4)),
            ),
        ),
        words,
    ),
    "meaning": (
        Signature(
            IDS,
            (
                spec("last_hidden_state", "float32", "B", 77, 2),
                spec("text_embeds", "float32", "B", 5),
                *(spec(f"normed_hidden_states.{i}", "float32", "B", 77, 2) for i in range(3)),
            ),
        ),
        meaning,
    ),
    "transformer": (
        Signature(
            (
                spec("sample", "float32", *LATENTS),
                spec("timestep", "float32", "B"),
                spec("encoder_hidden_states", "float32", "B", "L", WIDTH),
                spec("text_embeds", "float32", "B", 5),
                spec("time_ids", "float32", "B", 6),
            ),
            (spec("out_sample", "float32", *LATENTS),),
        ),
        denoise,
    ),
    "coder": (
        Signature(
            (spec("sample", "float32", "B", 3, "H", "W"),),
            (spec("latent_parameters", "float32", "B", 2 * CHANNELS, "h", "w"),),
        ),
        encode_image,
    ),
    "painter": (
        Signature(
            (spec("latent_sample", "float32", *LATENTS),),
            (spec("sample", "float32", "B", 3, "H", "W"),),
        ),
        paint,
    ),
}


def component(name: str) -> Component:
    file = FileRecord(f"{name}/model.onnx", "0" * 64, 1)
    return Component(name, ROLES[name], file.path, NETWORKS[name][0], "float32", (file,))


def records_in(root: Path, folder: str) -> tuple[FileRecord, ...]:
    return tuple(record_file(root, path) for path in sorted((root / folder).iterdir()))


class Invented(Networks):
    """Only the family's networks."""

    def __init__(self) -> None:
        super().__init__(**NETWORKS)
        self.engines = {name: self.engines[name] for name in NETWORKS}
        self.feeds = {name: self.feeds[name] for name in NETWORKS}
