"""Bad ControlNets: each is reported in one line with a remedy, before any work."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers import ControlNetModel, T2IAdapter

from checkpoints import tiny_checkpoint, tiny_controlnet
from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.checkpoints.controlnet import controlnets_from_sources
from sdrt_export.checkpoints.controlnet_compatibility import Host, host_of_folder
from sdrt_export.checkpoints.weights_files import Weights
from sdrt_export.errors import CheckpointError
from sdrt_export.exporting import export_checkpoint
from support.hub_server import COMMIT, hub_server

pytestmark = pytest.mark.export

WEIGHTS = "diffusion_pytorch_model.safetensors"
REPO = "somebody/tiny-controlnet"


@pytest.fixture(scope="module")
def host(checkpoint: Path) -> Host:
    return host_of_folder(checkpoint, "checkpoint")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_controlnet("classic", tmp_path_factory.mktemp("controlnet"))


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A good ControlNet to break."""
    return shutil.copytree(good, tmp_path / "net")


def refusal(source: object, host: Host, name: str = "edges") -> str:
    """The message for a ControlNet that cannot be exported, always a single line."""
    with pytest.raises(CheckpointError) as caught:
        controlnets_from_sources({name: str(source)}, host)
    message = str(caught.value)
    assert "\n" not in message
    assert str(source) in message
    return message


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_good_one_is_read(folder: Path, host: Host) -> None:
    (net,) = controlnets_from_sources({"edges": folder}, host)
    assert (net.name, net.folder, net.source) == ("edges", folder, str(folder))
    assert net.weights == Weights(None, (WEIGHTS,))


def test_halves_and_shards_are_found(good: Path, host: Host, tmp_path: Path) -> None:
    net = ControlNetModel.from_pretrained(good)
    net.half().save_pretrained(tmp_path / "half", variant="fp16")
    net.save_pretrained(tmp_path / "shards", max_shard_size="5KB")
    half, shards = controlnets_from_sources(
        {name: tmp_path / name for name in ("half", "shards")}, host
    )
    assert half.weights == Weights("fp16", ("diffusion_pytorch_model.fp16.safetensors",))
    assert shards.weights.variant is None
    assert len(shards.weights.files) > 1


@pytest.mark.parametrize("name", ["Canny", "", "a b", "../x", "a.b", "größe"])
def test_a_name_becomes_part_of_a_path(name: str, folder: Path, host: Host) -> None:
    with pytest.raises(CheckpointError, match="expected at most 80 lower-case letters, digits"):
        controlnets_from_sources({name: folder}, host)


@pytest.mark.parametrize("source", ["no_such_folder", "a/b/c", "../nothing", "owner/na me"])
def test_neither_a_folder_nor_a_hub_id_is_reported(
    source: str, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(source, host)
    assert message == (
        f"no ControlNet at '{source}': expected a diffusers folder, a safetensors file, or a "
        "Hub id such as 'owner/name'"
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("net.pth", "is a pickle, which runs code when it is loaded, so sdrt refuses it"),
        ("net.safetensors", "is not a safetensors file"),
    ],
)
def test_another_kind_of_file_is_refused(
    name: str, reason: str, host: Host, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"weights")
    assert reason in refusal(tmp_path / name, host)


@pytest.mark.parametrize("missing", ["config.json", WEIGHTS])
def test_a_missing_file_is_reported_with_those_found(
    missing: str, folder: Path, host: Host
) -> None:
    (folder / missing).unlink()
    (left,) = folder.iterdir()
    assert refusal(folder, host) == (
        f"'{folder}' is not a complete ControlNet: {missing} missing, found {left.name}: expected "
        "a folder that diffusers' save_pretrained wrote"
    )


def test_an_empty_folder_holds_nothing(host: Host, tmp_path: Path) -> None:
    assert "config.json missing, found nothing" in refusal(tmp_path, host)


def test_pickled_weights_are_refused_with_the_way_to_convert_them(folder: Path, host: Host) -> None:
    (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.bin")
    message = refusal(folder, host)
    assert "has pickled weights (diffusion_pytorch_model.bin), which run code" in message
    assert "from diffusers import ControlNetModel as M; M.from_pretrained(" in message


def test_weights_that_are_cut_short_are_reported(folder: Path, host: Host) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    assert f"{folder / WEIGHTS}: not a complete safetensors file" in refusal(folder, host)


def test_a_broken_configuration_is_reported(folder: Path, host: Host) -> None:
    (folder / "config.json").write_text('{"_class_name": ')
    assert f"{folder / 'config.json'}: not valid JSON" in refusal(folder, host)


# --- not a ControlNet


def test_a_unet_is_reported(checkpoint: Path, host: Host) -> None:
    message = refusal(checkpoint / "unet", host)
    assert message.endswith("it is UNet2DConditionModel, expected ControlNetModel")


def test_a_t2i_adapter_is_reported(host: Host, tmp_path: Path) -> None:
    T2IAdapter(channels=[8], num_res_blocks=1, downscale_factor=8).save_pretrained(tmp_path)
    assert refusal(tmp_path, host).endswith("it is T2IAdapter, expected ControlNetModel")


def test_a_whole_pipeline_is_reported(checkpoint: Path, host: Host) -> None:
    message = refusal(checkpoint, host)
    assert "is a whole pipeline, expected the folder of a ControlNet: name the one" in message


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"_class_name": "ControlNetUnionModel"}, "it is ControlNetUnionModel, expected"),
        ({"_class_name": None}, "it is not a model of diffusers, expected ControlNetModel"),
        (  # Stable Diffusion XL's
            {"addition_embed_type": "text_time"},
            "it has addition_embed_type='text_time', which Stable Diffusion 1 and 2 lack",
        ),
        ({"class_embed_type": "timestep"}, "it has class_embed_type='timestep', which Stable"),
    ],
)
def test_another_kind_is_reported(
    changes: dict[str, Any], complaint: str, folder: Path, host: Host
) -> None:
    edit(folder / "config.json", **changes)
    message = refusal(folder, host)
    assert message.startswith(f"the ControlNet '{folder}' cannot be exported: {complaint}")


# --- made for another UNet


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"cross_attention_dim": 1024},
            "it takes text vectors of 1024, the UNet of 8 (cross_attention_dim): it is made for "
            "another version of Stable Diffusion",
        ),
        ({"cross_attention_dim": None}, "it takes text vectors of 1280, the UNet of 8"),
        (
            {"in_channels": 9},
            "it takes latents of 9 channels (in_channels), the UNet outputs 4: it is made for "
            "another UNet",
        ),
        (
            {"block_out_channels": [4, 16]},
            "its residuals have [4, 16] channels (block_out_channels), the UNet's skip connections "
            "[4, 8]: it is made for another UNet",
        ),
        ({"block_out_channels": [4, 8, 8]}, "its residuals have [4, 8, 8] channels"),
        (
            {"layers_per_block": 2},
            "it has [2, 2] residuals per block (layers_per_block), the UNet has [1, 1] skip "
            "connections: it is made for another UNet",
        ),
        (
            {"conditioning_embedding_out_channels": [4, 4, 8, 8]},
            "it scales images down by 8 (conditioning_embedding_out_channels), the VAE by 2: it "
            "is made for another VAE",
        ),
        ({"downsample_padding": 0}, "it has downsample_padding=0, expected 1, like the UNet"),
        (
            {"controlnet_conditioning_channel_order": "grb"},
            "its controlnet_conditioning_channel_order is grb, expected rgb or bgr",
        ),
        ({"cross_attention_dim": "8"}, 'cross_attention_dim: got "8", expected an integer'),
        ({"layers_per_block": 10**12}, "layers_per_block: got 1000000000000, expected a whole"),
        ({"block_out_channels": []}, "block_out_channels: got [], expected whole numbers"),
    ],
)
def test_a_mismatch_is_reported(
    changes: dict[str, Any], complaint: str, folder: Path, host: Host
) -> None:
    edit(folder / "config.json", **changes)
    message = refusal(folder, host)
    assert message.startswith(f"the ControlNet '{folder}' cannot be exported: {complaint}")


def test_an_inpainting_unet_takes_the_plain_one_s(good: Path, tmp_path: Path) -> None:
    """With 4 channels, as in diffusers' inpainting pipeline: only the UNet takes the mask."""
    checkpoint = tiny_checkpoint("inpaint", tmp_path)
    (net,) = controlnets_from_sources({"edges": good}, host_of_folder(checkpoint, "inpaint"))
    assert net.name == "edges"


def test_a_net_that_comes_with_the_checkpoint_is_held_to_its_unet(
    checkpoint: Path, good: Path, tmp_path: Path
) -> None:
    whole = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    net = shutil.copytree(good, whole / "controlnet_edges")
    (found,) = checkpoint_from_source(whole).controlnets
    assert (found.name, found.folder) == ("edges", net)
    with pytest.raises(CheckpointError, match="already has a ControlNet 'edges': choose another"):
        export_checkpoint(whole, tmp_path / "bundle", controlnets={"edges": good})

    edit(net / "config.json", cross_attention_dim=1024)
    with pytest.raises(CheckpointError, match="it takes text vectors of 1024, the UNet of 8"):
        checkpoint_from_source(whole)
    assert not (tmp_path / "bundle").exists()


# --- the Hub, and no torch

PROGRAM = """
import sys
from sdrt.errors import SdrtError
from sdrt_export.checkpoints.controlnet import controlnets_from_sources
from sdrt_export.checkpoints.controlnet_compatibility import host_of_folder
try:
    (net,) = controlnets_from_sources({"x": sys.argv[1]}, host_of_folder(Path(sys.argv[2]), "x"))
    print(net.source, *net.weights.files)
except SdrtError as error:
    print(error)
print(sorted({"torch", "diffusers", "transformers", "onnx"} & set(sys.modules)))
"""

Find = Callable[[str, str], list[str]]


@pytest.fixture
def find(checkpoint: Path, tmp_path: Path) -> Find:
    """`controlnets_from_sources` in a new process: the Hub's library reads its settings once."""

    def lines(source: str, url: str) -> list[str]:
        result = subprocess.run(
            [sys.executable, "-c", f"from pathlib import Path{PROGRAM}", source, str(checkpoint)],
            capture_output=True,
            text=True,
            env=os.environ
            | {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
            | {"PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        )
        return result.stdout.splitlines()

    return lines


def test_a_net_from_the_hub_is_its_weights_and_its_configuration(folder: Path, find: Find) -> None:
    (folder / "README.md").write_text("# A ControlNet")
    (folder / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    with hub_server(REPO, folder) as server:
        assert find(REPO, server.url) == [f"{REPO}@{COMMIT} {WEIGHTS}", "[]"]
    assert sorted(server.sent) == sorted(["config.json", WEIGHTS])


def test_a_net_that_does_not_fit_costs_no_weights(folder: Path, find: Find) -> None:
    edit(folder / "config.json", in_channels=9)
    with hub_server(REPO, folder) as server:
        message, modules = find(REPO, server.url)
    assert message.startswith(f"the ControlNet '{REPO}' cannot be exported: it takes latents of 9")
    assert modules == "[]"
    assert server.sent == ["config.json"]
