"""Writes a bundle of real networks that load in a millisecond: a table of words, a product, an
enlargement, a reduction. Its images mean nothing, but it runs like any other bundle.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from sdrt.bundle.file_records import record_file
from sdrt.bundle.manifest import RESIDUALS as RESIDUALS_TAKEN
from sdrt.bundle.manifest import Component, Manifest, write_manifest
from sdrt.families.family import Role
from sdrt_engines import Array, Signature
from support.bundle_folder import CONFIGS, family_of_folder, write_json
from support.clip_folder import clip_vocabulary, write_clip_folder
from support.onnx_writer import Node, onnx_model, spec
from support.slow_networks import loop, loop_weights

WEIGHTS = "model.onnx_data"
WIDTH = 4  # of the text encoder's states
LATENTS = ("B", 4, "h", "w")

UNET_INPUTS = (
    spec("sample", "float32", *LATENTS),
    spec("timestep", "float32", "B"),
    spec("encoder_hidden_states", "float32", "B", "L", WIDTH),
)
RESIDUALS = (
    spec("down_block_residuals.0", "float32", *LATENTS),
    spec("mid_block_residual", "float32", "B", 4, "ceil(h/2)", "ceil(w/2)"),
)
SIGNATURES = {
    "text_encoder": Signature(
        (spec("input_ids", "int64", "B", 77),),
        (spec("last_hidden_state", "float32", "B", 77, WIDTH),),
    ),
    "unet": Signature(UNET_INPUTS, (spec("out_sample", "float32", *LATENTS),)),
    "unet_controlled": Signature(
        (*UNET_INPUTS, *RESIDUALS), (spec("out_sample", "float32", *LATENTS),)
    ),
    "controlnet_edges": Signature(
        (
            *UNET_INPUTS,
            spec("controlnet_cond", "float32", "B", 3, "8*h", "8*w"),
            spec("conditioning_scale", "float32", "B", len(RESIDUALS)),
            *(replace(residual, name=f"earlier.{residual.name}") for residual in RESIDUALS),
        ),
        RESIDUALS,
    ),
    "vae_encoder": Signature(
        (spec("sample", "float32", "B", 3, "H", "W"),),
        (spec("latent_parameters", "float32", "B", 8, "H/8", "W/8"),),
    ),
    "vae_decoder": Signature(
        (spec("latent_sample", "float32", *LATENTS),),
        (spec("sample", "float32", "B", 3, "H", "W"),),
    ),
}
FILES = {"unet_controlled": "unet/controlled.onnx"}
ROLES: dict[str, Role] = {
    "text_encoder": "text encoder",
    "unet": "denoiser",
    "unet_controlled": "denoiser",
    "controlnet_edges": "controlnet",
    "vae_encoder": "vae encoder",
    "vae_decoder": "vae decoder",
}
# Counts as attention that is not fused: its matrices are part of the forecast.
ATTENTION: Node = ("Softmax", ["sample"], ["unused"])
NODES: dict[str, list[Node]] = {
    "text_encoder": [("Gather", ["words", "input_ids"], ["last_hidden_state"])],
    "unet": [("Mul", ["sample", "factor"], ["out_sample"]), ATTENTION],
    "unet_controlled": [
        ("Mul", ["sample", "factor"], ["plain"]),
        ("Add", ["plain", "down_block_residuals.0"], ["shallow"]),
        ("GlobalAveragePool", ["mid_block_residual"], ["deep"]),
        ("Add", ["shallow", "deep"], ["out_sample"]),
        ATTENTION,
    ],
    "controlnet_edges": [
        ("Pad", ["controlnet_cond", "channels"], ["padded"]),
        ("Mul", ["padded", "factor"], ["cond"]),
        ("Transpose", ["conditioning_scale"], ["scales"]),
        ("Split", ["scales"], ["row.0", "row.1"]),
        ("Reshape", ["row.0", "per_image"], ["scale.0"]),
        ("Reshape", ["row.1", "per_image"], ["scale.1"]),
        ("Resize", ["cond", "", "eighth"], ["shallow"]),
        ("Mul", ["shallow", "scale.0"], ["scaled.0"]),
        ("Add", ["earlier.down_block_residuals.0", "scaled.0"], ["down_block_residuals.0"]),
        ("Resize", ["cond", "", "sixteenth"], ["deep"]),
        ("Mul", ["deep", "scale.1"], ["scaled.1"]),
        ("Add", ["earlier.mid_block_residual", "scaled.1"], ["mid_block_residual"]),
    ],
    "vae_encoder": [
        ("Resize", ["sample", "", "eighth"], ["small"]),
        ("Mul", ["small", "factor"], ["mean"]),
        ("Pad", ["mean", "channels", "low"], ["latent_parameters"]),
    ],
    "vae_decoder": [
        ("Slice", ["latent_sample", "begin", "end", "axis"], ["colours"]),
        ("Resize", ["colours", "", "scales"], ["large"]),
        ("Mul", ["large", "factor"], ["sample"]),
    ],
}


def write_toy_bundle(
    root: Path,
    nan_from: str | None = None,
    *,
    unet_channels: int = 4,
    pools_globally: bool = False,
    num_trips: int | None = None,
) -> Path:
    """The bundle, in a new folder `root`. The component `nan_from` returns only NaN. The denoisers
    first send their sample `num_trips` times through a loop.

    Other arguments only change the configurations.
    """
    configs = CONFIGS | {
        "unet/config.json": CONFIGS["unet/config.json"] | {"in_channels": unet_channels},
        "controlnet_edges/config.json": {"global_pool_conditions": pools_globally},
    }
    for path, config in configs.items():
        write_json(root / path, config)
    write_clip_folder(root / "tokenizer")
    components = tuple(
        _component(root, name, name.removesuffix("_controlled") == nan_from, num_trips)
        for name in SIGNATURES
    )
    networks = {file.path for component in components for file in component.files}
    paths = (path.relative_to(root).as_posix() for path in root.rglob("*.*"))
    manifest = Manifest(
        family=family_of_folder(root),
        components=components,
        files=tuple(record_file(root, path) for path in sorted(paths) if path not in networks),
        source="tests",
        tools={"torch": "2.13.0"},
        created="2025-11-20T23:00:00+00:00",
        defaults={"guidance_scale": 3.0},
    )
    write_manifest(root, manifest)
    return root


def _component(root: Path, name: str, nan: bool, num_trips: int | None) -> Component:
    outside = name.startswith("unet")  # shapes of the others are inferred from weights
    weights, nodes = _weights(nan)[name], NODES[name]
    if outside and num_trips is not None:
        weights |= loop_weights(num_trips)
        nodes = [loop("sample", "later", LATENTS), ("Mul", ["later", "factor"], [nodes[0][2][0]])]
        nodes += NODES[name][1:]
    model = FILES.get(name, f"{name}/model.onnx")
    file = root / model
    file.parent.mkdir(exist_ok=True)
    network = onnx_model(SIGNATURES[name], nodes, weights, WEIGHTS if outside else None)
    file.write_bytes(network)
    paths = [model]
    if outside:
        data = file.with_name(WEIGHTS)
        data.write_bytes(b"".join(array.tobytes() for array in weights.values()))
        paths.append(data.relative_to(root).as_posix())
    return Component(
        name=name,
        role=ROLES[name],
        model=model,
        signature=SIGNATURES[name],
        precision="float32",
        files=tuple(record_file(root, path) for path in paths),
        takes=frozenset({RESIDUALS_TAKEN} if name == "unet_controlled" else ()),
    )


def _weights(nan: bool) -> dict[str, dict[str, Array]]:
    unit = np.float32(np.nan if nan else 1)
    vocabulary, _ = clip_vocabulary()
    words = np.arange(len(vocabulary) * WIDTH, dtype=np.float32).reshape(-1, WIDTH)
    unet = {"factor": np.array([0.5], np.float32) * unit}
    return {
        "text_encoder": {"words": words * unit},
        "unet": unet,
        "unet_controlled": unet,
        "controlnet_edges": {
            "channels": np.array([0, 0, 0, 0, 0, 1, 0, 0]),  # three colour channels become four
            "factor": unit.reshape(1),
            "per_image": np.array([-1, 1, 1, 1]),
            "eighth": np.array([1, 1, 1 / 8, 1 / 8], np.float32),
            "sixteenth": np.array([1, 1, 1 / 16, 1 / 16], np.float32),
        },
        "vae_encoder": {
            "eighth": np.array([1, 1, 1 / 8, 1 / 8], np.float32),
            "factor": np.array([10], np.float32) * unit,
            "channels": np.array([0, 0, 0, 0, 0, 5, 0, 0]),
            "low": np.array([-4], np.float32),  # the log-variances, and an unused mean
        },
        "vae_decoder": {
            "begin": np.array([0]),
            "end": np.array([3]),
            "axis": np.array([1]),
            "scales": np.array([1, 1, 8, 8], np.float32),
            "factor": np.array([0.1], np.float32) * unit,
        },
    }
