"""Writes a tiny bundle: the full layout, with real networks that return their input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdrt.bundle.file_records import record_file
from sdrt.bundle.manifest import Component, Manifest, Parity, write_manifest
from sdrt.bundle.optimum_folder import configs_of
from sdrt.families.family import Family
from sdrt.families.known import ROLES, family_from_configs
from sdrt_engines import Signature, TensorSpec
from support.onnx_writer import onnx_model, spec

LATENTS = spec("sample", "float32", "B", 4, "h", "w")

SIGNATURES = {
    "text_encoder": Signature(
        (spec("input_ids", "int64", "B", 77),), (spec("last_hidden_state", "int64", "B", 77),)
    ),
    "unet": Signature((LATENTS,), (spec("out_sample", "float32", "B", 4, "h", "w"),)),
    "vae_decoder": Signature(
        (spec("latent_sample", "float32", "B", 4, "h", "w"),),
        (spec("sample", "float32", "B", 4, "h", "w"),),
    ),
}
CONFIGS: dict[str, dict[str, Any]] = {
    "model_index.json": {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.39.0",
    },
    "scheduler/scheduler_config.json": {"_class_name": "DDIMScheduler", "beta_end": 0.012},
    "tokenizer/vocab.json": {"a</w>": 0},
    "text_encoder/config.json": {"num_hidden_layers": 2},
    "unet/config.json": {"sample_size": 16, "cross_attention_dim": 768},
    "vae_decoder/config.json": {
        "block_out_channels": [32, 64, 64, 64],
        "latent_channels": 4,
        "scaling_factor": 0.13,
    },
}


def write_onnx_folder(root: Path) -> Path:
    """The files that optimum writes: configurations and networks, no manifest."""
    for name, signature in SIGNATURES.items():
        path = root / name / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(_identity(signature.inputs[0], signature.outputs[0]))
    for name, config in CONFIGS.items():
        write_json(root / name, config)
    return root


def write_bundle(root: Path) -> Path:
    """The same as a bundle, with `sdrt.json`."""
    write_onnx_folder(root)
    components = tuple(
        Component(
            name=name,
            role=ROLES[name],
            model=f"{name}/model.onnx",
            signature=signature,
            precision="float32",
            files=(record_file(root, f"{name}/model.onnx"),),
            parity=Parity(max_abs=1e-6, psnr=120.0),
        )
        for name, signature in SIGNATURES.items()
    )
    manifest = Manifest(
        family=family_of_folder(root),
        components=components,
        files=tuple(record_file(root, path) for path in CONFIGS),
        source="tests",
        tools={"torch": "2.13.0"},
        created="2025-11-20T23:00:00+00:00",
    )
    write_manifest(root, manifest)
    return root


def family_of_folder(root: Path) -> Family:
    """The family in the configurations of a bundle's folder."""
    return family_from_configs(configs_of(root, vae="vae_decoder"))


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _identity(before: TensorSpec, after: TensorSpec) -> bytes:
    return onnx_model(Signature((before,), (after,)), [("Identity", [before.name], [after.name])])
