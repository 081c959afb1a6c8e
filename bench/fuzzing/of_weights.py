"""Files of weights from strangers: bytes changed, and headers that are whole but absurd."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from fuzzing.bundles import Place, mutation
from fuzzing.outcomes import Case, command, judged
from support.weights_files import header_bytes, write_weights

Shape = tuple[int, ...]

_LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
_UNET = "model.diffusion_model."
_FILES: Mapping[str, Mapping[str, Shape]] = {
    "lora": {
        f"{_LAYER}.lora_down.weight": (4, 8),
        f"{_LAYER}.lora_up.weight": (3, 4),
        f"{_LAYER}.hada_w1_b": (2, 2),
        f"{_LAYER}.lokr_w1": (2, 2),
        f"{_LAYER}.alpha": (),
    },
    "checkpoint": {
        f"{_UNET}input_blocks.0.0.weight": (3, 4, 3, 3),
        f"{_UNET}input_blocks.1.0.in_layers.2.weight": (3, 3, 3, 3),
        f"{_UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (3, 7),
        f"{_UNET}label_emb.0.0.weight": (3, 7),
        "first_stage_model.decoder.conv_in.weight": (5, 4, 3, 3),
        "first_stage_model.decoder.up.0.block.0.norm1.weight": (3,),
    },
    "controlnet": {
        "conv_in.weight": (3, 4, 3, 3),
        "controlnet_cond_embedding.conv_in.weight": (3, 3, 3, 3),
    },
    "embedding": {"clip_l": (2, 3), "clip_g": (2, 4)},
    "tiny_vae": {"1.weight": (6, 4, 3, 3), "3.conv.0.weight": (6, 6, 3, 3)},
}
_SHAPES: tuple[Shape, ...] = ((), (0,), (1,), (0, 0, 0, 0), (2, 3), (1, 2, 3, 4, 5), (1,) * 33)


def weights(place: Place) -> Iterator[Case]:
    """Files whose bytes are changed, or whose tensors have other shapes, are inspected."""
    folder = place.work / "weights"
    folder.mkdir(exist_ok=True)
    files = [
        write_weights(folder / f"{name}.safetensors", tensors, metadata={"ss_network_dim": "4"})
        for name, tensors in _FILES.items()
    ]
    for _ in range(place.times(2000)):
        path = place.random.choice(files)
        name, content = mutation(place.random, path.read_bytes(), files)
        yield _inspected(folder, f"{path.name}: {name}", content)
    for _ in range(place.times(1000)):
        kind = place.random.choice(list(_FILES))
        shapes = {
            key: place.random.choice((shape, *_SHAPES)) for key, shape in _FILES[kind].items()
        }
        yield _inspected(folder, f"{kind}: {list(shapes.values())}", _with_shapes(shapes))


def _with_shapes(shapes: Mapping[str, Shape]) -> bytes:
    header, end = {}, 0
    for key, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[key] = {"dtype": "F16", "shape": shape, "data_offsets": (begin, end)}
    return header_bytes(json.dumps(header).encode()) + bytes(end)


def _inspected(folder: Path, name: str, content: bytes | None) -> Case:
    path = folder / "case.safetensors"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    return judged(name, command("inspect", path, "--json"))
