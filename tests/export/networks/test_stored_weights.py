"""Weights read one at a time: those that diffusers and transformers load, whatever their names."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.errors import CheckpointError
from sdrt_export.networks.loading import Part, parts_from_checkpoint

pytestmark = pytest.mark.export

Weights: TypeAlias = dict[str, torch.Tensor]

OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint that may be changed."""
    return shutil.copytree(checkpoint, tmp_path / "checkpoint")


def part_in(folder: Path, name: str) -> Part:
    checkpoint = checkpoint_from_source(folder)
    return next(part for part in parts_from_checkpoint(checkpoint) if part.name == name)


def change(folder: Path, change: Callable[[Weights], Weights], suffix: str = "") -> None:
    """Writes the weights in `folder` changed, under a name with that suffix."""
    (path,) = folder.glob("*.safetensors")
    weights = change(load_file(path))
    path.unlink()
    path = path.with_name(path.name.replace(".safetensors", f"{suffix}.safetensors"))
    save_file(weights, path, metadata={"format": "pt"})


def assert_as_libraries(part: Part) -> None:
    """Asserts that the weights are those that the library loads."""
    network = part.networks()[0]
    weights = part.weights()
    for name, expected in network.model.state_dict().items():
        assert torch.equal(weights[name].float(), expected), name


def in_shards(folder: Path) -> None:
    """Splits the weights into two files, the way both libraries do."""
    (path,) = folder.glob("*.safetensors")
    weights = load_file(path)
    path.unlink()
    names = sorted(weights)
    files: dict[str, str] = {}
    for i, shard in enumerate((names[::2], names[1::2]), 1):
        name = f"{path.stem}-{i:05}-of-00002.safetensors"
        save_file({n: weights[n] for n in shard}, folder / name, metadata={"format": "pt"})
        files |= dict.fromkeys(shard, name)
    index = {"metadata": {"total_size": 1}, "weight_map": files}
    (folder / f"{path.name}.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("name", ["text_encoder", "unet", "vae_decoder", "vae_encoder"])
def test_files_of_both_libraries(name: str, folder: Path) -> None:
    assert_as_libraries(part_in(folder, name))


@pytest.mark.parametrize("name", ["text_encoder", "unet"])
def test_shards(name: str, folder: Path) -> None:
    in_shards(folder / name)
    assert_as_libraries(part_in(folder, name))


@pytest.mark.parametrize("name", ["text_encoder", "unet"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves(name: str, dtype: torch.dtype, folder: Path) -> None:
    change(folder / name, lambda weights: {n: w.to(dtype) for n, w in weights.items()}, ".fp16")
    part = part_in(folder, name)
    assert_as_libraries(part)
    assert {weight.dtype for weight in part.weights().values()} == {dtype}


def test_attention_of_old_vaes(folder: Path) -> None:
    """As in checkpoints of 2022 and 2023."""

    def renamed(weights: Weights) -> Weights:
        return {
            re.sub(r"to_q|to_k|to_v|to_out\.0", lambda match: OLD_NAMES[match[0]], name): weight
            for name, weight in weights.items()
        }

    change(folder / "vae", renamed)
    for name in ("vae_decoder", "vae_encoder"):
        assert_as_libraries(part_in(folder, name))


def test_the_text_model_of_any_version(folder: Path) -> None:
    """Checkpoints contain position ids of old versions, and a prefix that version 5 removed."""
    position_ids = {"text_model.embeddings.position_ids": torch.arange(77)[None]}

    def prefixed(weights: Weights) -> Weights:
        return position_ids | {
            f"text_model.{name.removeprefix('text_model.')}": weight
            for name, weight in weights.items()
        }

    change(folder / "text_encoder", prefixed)
    assert_as_libraries(part_in(folder, "text_encoder"))


def test_integers_are_refused(folder: Path) -> None:
    """Quantised weights, whose scale is elsewhere."""
    change(folder / "unet", lambda weights: weights | {"conv_in.bias": as_bytes(weights)})
    with pytest.raises(
        CheckpointError,
        match=rf"the unet of '{folder}' does not load: conv_in\.bias is of type U8, expected one "
        r"of F64, .*: save or download it again",
    ):
        part_in(folder, "unet").weights()


def as_bytes(weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return weights["conv_in.bias"].to(torch.uint8)


def test_a_file_that_vanishes_is_one_error(folder: Path) -> None:
    weights = part_in(folder, "unet").weights()
    shutil.rmtree(folder / "unet")
    with pytest.raises(CheckpointError, match=rf"the unet of '{folder}' does not load: "):
        weights["conv_in.bias"]
