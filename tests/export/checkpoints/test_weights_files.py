"""Weights found by the names of files: whole, in shards, and in variants under both namings."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from diffusers import ControlNetModel
from safetensors.numpy import save_file

from checkpoints import tiny_controlnet
from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.checkpoints.controlnet import controlnets_from_sources
from sdrt_export.checkpoints.controlnet_compatibility import host_of_folder
from sdrt_export.checkpoints.weights_files import (
    Weights,
    check_weights,
    find_weights,
    refusal_of_pickles,
)
from sdrt_export.errors import CheckpointError
from sdrt_export.networks.loading import part_from_controlnet

pytestmark = pytest.mark.export

STEM = "unet/diffusion_pytorch_model"
INDEX = f"{STEM}.safetensors.index.json"
HALF_INDEX = f"{STEM}.safetensors.index.fp16.json"


def shards(name: str, total: int) -> tuple[str, ...]:
    """`name` with the shard's number in place of `*`."""
    numbers = range(1, total + 1)
    return tuple(f"{STEM}{name.replace('*', f'-{i:05}-of-{total:05}')}" for i in numbers)


PLAIN = shards("*.safetensors", 3)
NEW = shards(".fp16*.safetensors", 2)  # the variant before the number
OLD = shards("*.fp16.safetensors", 2)


@pytest.mark.parametrize("halves", [NEW, OLD])
def test_shards_of_a_variant_are_that_variant(halves: tuple[str, ...]) -> None:
    found = find_weights({*halves, HALF_INDEX}, STEM)
    assert found == Weights("fp16", halves, HALF_INDEX)


@pytest.mark.parametrize("halves", [NEW, OLD])
def test_of_plain_and_variant_shards_the_plain_are_taken(halves: tuple[str, ...]) -> None:
    found = find_weights({*PLAIN, INDEX, *halves, HALF_INDEX}, STEM)
    assert found == Weights(None, PLAIN, INDEX)
    assert found.needed == (*PLAIN, INDEX)  # what is downloaded from the Hub


def test_complete_weights_are_preferred_and_incomplete_ones_name_what_is_missing() -> None:
    assert find_weights({*PLAIN[:2], INDEX, *NEW, HALF_INDEX}, STEM) == Weights(
        "fp16", NEW, HALF_INDEX
    )
    for absent in (*PLAIN, INDEX):
        files = {*PLAIN, INDEX} - {absent}
        found = find_weights(files, STEM)
        assert found is not None
        assert found.missing(files) == [absent]


def test_an_index_of_the_old_form_is_found() -> None:
    index = f"{STEM}.safetensors.fp16.index.json"
    assert find_weights({*OLD, index}, STEM) == Weights("fp16", OLD, index)


def test_other_names_are_no_shards() -> None:
    names = ("-1-of-2.safetensors", "-00001-of-00002.bin", "-00001-of-00002.ema.safetensors")
    assert find_weights({f"{STEM}{name}" for name in names}, STEM) is None


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        ({"weight_map": {"w": "../other.bin"}}, "names ../other.bin, expected a-00001-of-00001"),
        ({"weight_map": {}}, "names no files, expected a-00001-of-00001.safetensors"),
        ({"weight_map": {"w": ["a"]}}, "names ['a'], expected"),
        ({}, "weight_map: missing"),
    ],
)
def test_an_index_that_names_other_files_is_refused(
    index: object, complaint: str, tmp_path: Path
) -> None:
    """A library would read what the index names: a pickle, a file of another folder."""
    shard = "a-00001-of-00001.safetensors"
    save_file({"w": np.zeros(1)}, tmp_path / shard)
    (tmp_path / "a.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=re.escape(complaint)) as caught:
        check_weights(tmp_path, Weights(None, (shard,), "a.safetensors.index.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("naming", ["new", "old"])
def test_shards_of_a_variant_load(naming: str, checkpoint: Path, tmp_path: Path) -> None:
    net = ControlNetModel.from_pretrained(tiny_controlnet("classic", tmp_path / "whole"))
    folder = tmp_path / "shards"
    net.half().save_pretrained(folder, variant="fp16", max_shard_size="5KB")
    if naming == "old":
        _rename_to_old(folder)
    (found,) = controlnets_from_sources({"edges": folder}, host_of_folder(checkpoint, "it"))
    assert found.weights.variant == "fp16"
    assert len(found.weights.files) > 1
    (network,) = part_from_controlnet(found).networks()
    parameters = sum(parameter.numel() for parameter in net.parameters())
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def _rename_to_old(folder: Path) -> None:
    """Gives shards the names of older libraries."""
    (index,) = folder.glob("*.index.fp16.json")
    index.write_text(re.sub(r"\.fp16(-\d+-of-\d+)", r"\1.fp16", index.read_text()))
    for path in folder.glob("*.safetensors"):
        path.rename(path.with_name(re.sub(r"\.fp16(-\d+-of-\d+)", r"\1.fp16", path.name)))


def test_a_missing_shard_is_named(checkpoint: Path, tmp_path: Path) -> None:
    folder = tiny_controlnet("classic", tmp_path / "whole")
    net = ControlNetModel.from_pretrained(folder)
    net.save_pretrained(tmp_path / "shards", max_shard_size="5KB")
    last = max((tmp_path / "shards").glob("*.safetensors"))
    last.unlink()
    host = host_of_folder(checkpoint, "it")
    with pytest.raises(CheckpointError, match=f"{last.name} missing"):
        controlnets_from_sources({"edges": tmp_path / "shards"}, host)
    assert checkpoint_from_source(checkpoint).controlnets == ()


@pytest.mark.parametrize("source", ["plain", "it's", 'a "b" $HOME', "a\\b`c`!"])
def test_the_advice_to_convert_is_a_command_for_any_name(source: str) -> None:
    message = refusal_of_pickles(source, ["unet/a.bin"], "DiffusionPipeline")
    command = message.partition("convert them: ")[2]
    _, option, program = shlex.split(command.removesuffix(", and export 'converted'"))
    assert option == "-c"
    compile(program, "advice", "exec")
    assert f".from_pretrained({source!r}).save_pretrained('converted')" in program
