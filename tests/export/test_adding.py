"""ControlNets in bundles: exported with a checkpoint, and added to an existing bundle."""

import json
import re
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import tiny_controlnet
from sdrt.bundle.demo import DEMO_FOLDER
from sdrt.bundle.file_records import verify_file
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Manifest, sealed
from sdrt.bundle.writing import only_writer
from sdrt.command_line.main import main
from sdrt.errors import BundleError, SdrtError
from sdrt.families.family import LatentSpace, Role
from sdrt_engines import signature_from_onnx
from sdrt_export.adding import add_to_bundle
from sdrt_export.errors import CheckpointError, ExportError
from sdrt_export.exporting import export_checkpoint
from support.manifest_edits import remove_component
from support.other_vaes import tiny_vae

pytestmark = pytest.mark.export

RECIPE = "v_prediction"  # large enough for data files


@pytest.fixture(scope="module")
def nets(tiny_controlnets: Callable[[str], dict[str, Path]]) -> dict[str, Path]:
    return tiny_controlnets(RECIPE)


@pytest.fixture(scope="module")
def whole(tiny_bundle: Callable[[str], Path]) -> Path:
    """A bundle that was exported with two ControlNets."""
    return tiny_bundle(RECIPE)


@pytest.fixture(scope="module")
def without_nets(
    tiny_checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle that was exported without any."""
    return export_checkpoint(tiny_checkpoint(RECIPE), tmp_path_factory.mktemp("plain") / "bundle")


@pytest.fixture(scope="module")
def with_edges(
    without_nets: Path, nets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same with one ControlNet added."""
    bundle = Path(shutil.copytree(without_nets, tmp_path_factory.mktemp("edges") / "bundle"))
    add_to_bundle(bundle, controlnets={"edges": nets["edges"]})
    return bundle


@pytest.fixture
def controlled(with_edges: Path, tmp_path: Path) -> Path:
    """A copy of that, to change."""
    return shutil.copytree(with_edges, tmp_path / "controlled")


@pytest.fixture
def plain(without_nets: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return shutil.copytree(without_nets, tmp_path / "bundle")


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Each file with its time and its bytes."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def names(bundle: Path) -> list[str]:
    return [component.name for component in Bundle.open(bundle).manifest.components]


def assert_recorded(bundle: Path) -> None:
    """Asserts that the manifest lists every file as it is."""
    manifest = Bundle.open(bundle).manifest
    records = {*manifest.files, *(f for c in manifest.components for f in c.files)}
    for record in records:
        verify_file(bundle, record)
    assert {record.path for record in records} == contents(bundle).keys() - {"sdrt.json"}


def test_an_export_with_nets(whole: Path, nets: dict[str, Path]) -> None:
    bundle = Bundle.open(whole)
    assert names(whole)[-2:] == ["controlnet_edges", "controlnet_depth"]
    assert_recorded(whole)
    for name, channels in (("edges", 3), ("depth", 1)):
        component = bundle.component(f"controlnet_{name}")
        assert component.model == f"controlnet_{name}/model.onnx"
        assert component.signature == signature_from_onnx(whole / component.model)
        assert component.signature.input("controlnet_cond").shape[1] == channels
        assert component.source == str(nets[name])
        assert component.parity is not None
        assert component.parity.psnr > 110
        config = json.loads((nets[name] / "config.json").read_text())
        assert bundle.component_config(component.name) == config


def test_what_the_nets_give_is_what_the_unet_takes(whole: Path) -> None:
    bundle = Bundle.open(whole)
    plain, controlled = (bundle.component(name).signature for name in ("unet", "unet_controlled"))
    residuals = controlled.inputs[len(plain.inputs) :]
    assert controlled.inputs[: len(plain.inputs)] == plain.inputs
    assert controlled.outputs == plain.outputs
    for name in ("edges", "depth"):
        assert bundle.component(f"controlnet_{name}").signature.outputs == residuals


def test_the_unet_s_weights_are_stored_and_hashed_once(whole: Path) -> None:
    bundle = Bundle.open(whole)
    unet, controlled = (bundle.component(name) for name in ("unet", "unet_controlled"))
    assert controlled.files[0].path == "unet/controlled.onnx"
    assert unet.files[1] == controlled.files[1]
    assert unet.files[1].path == "unet/model.onnx_data"
    assert bundle.component_config("unet_controlled") == bundle.component_config("unet")


def test_a_net_that_comes_with_the_checkpoint_has_its_source(
    tiny_checkpoint: Callable[[str], Path],
    nets: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = shutil.copytree(tiny_checkpoint(RECIPE), tmp_path / "checkpoint")
    index = json.loads((checkpoint / "model_index.json").read_text())
    index["requires_safety_checker"] = True
    (checkpoint / "model_index.json").write_text(json.dumps(index))
    shutil.copytree(nets["edges"], checkpoint / "controlnet_edges")
    depth = nets["depth"]
    command = ["export", checkpoint, "--controlnet", f"depth={depth}", "-o", tmp_path / "bundle"]
    assert main([*map(str, command), "--weights", "fp16"]) == 0
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.component("controlnet_edges").source is None
    assert bundle.component("controlnet_depth").source == str(depth)
    assert bundle.component("controlnet_depth").precision == "float16"
    assert bundle.model_index["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert_recorded(tmp_path / "bundle")
    out, err = capsys.readouterr()
    assert "sdrt: note: safety_checker: not exported, sdrt runs without it\n" in err
    num_networks = len(bundle.manifest.components)
    assert re.fullmatch(
        rf"{re.escape(str(bundle.root))}: {num_networks} networks, \d+ MB, PSNR \d+ dB or more "
        rf"against torch \(\w+\); next: sdrt run {re.escape(str(bundle.root))} \"a prompt\"\n",
        out,
    )


def test_nets_are_added_to_a_bundle(plain: Path, nets: dict[str, Path]) -> None:
    before, manifest = contents(plain), Bundle.open(plain).manifest
    given = [part for name in nets for part in ("--controlnet", f"{name}={nets[name]}")]
    assert main(["export", *given, "--into", str(plain)]) == 0

    after = contents(plain)
    assert {path: after[path] for path in before if path != "sdrt.json"} == {
        path: content for path, content in before.items() if path != "sdrt.json"
    }
    assert {path.split("/")[0] for path in after.keys() - before.keys()} == {
        "controlnet_edges",
        "controlnet_depth",
    }
    assert_recorded(plain)
    changed = Bundle.open(plain).manifest
    assert changed.components[: len(manifest.components)] == manifest.components
    for field in ("family", "source", "tools", "created", "defaults"):
        assert getattr(changed, field) == getattr(manifest, field)
    assert {c.source for c in changed.components} == {None, *map(str, nets.values())}
    assert {len(c.tools) for c in changed.components} == {0}


def test_a_net_of_other_tools_says_so(plain: Path, nets: dict[str, Path]) -> None:
    document = json.loads((plain / "sdrt.json").read_text())
    document["tools"]["torch"] = "1.13.0"
    (plain / "sdrt.json").write_text(json.dumps(sealed(document)))
    add_to_bundle(plain, controlnets={"edges": nets["edges"]})
    manifest = Bundle.open(plain).manifest
    assert manifest.tools["torch"] == "1.13.0"
    assert Bundle.open(plain).component("controlnet_edges").tools["torch"] == torch.__version__
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_a_name_that_is_taken_is_reported_and_replaced_if_asked(
    controlled: Path, nets: dict[str, Path]
) -> None:
    before = contents(controlled)
    with pytest.raises(ExportError, match="already has a ControlNet 'edges': choose another name"):
        add_to_bundle(controlled, controlnets={"edges": nets["depth"]})
    assert contents(controlled) == before

    add_to_bundle(controlled, controlnets={"edges": nets["depth"]}, replace=True)
    component = Bundle.open(controlled).component("controlnet_edges")
    assert component.source == str(nets["depth"])
    assert component.signature.input("controlnet_cond").shape[1] == 1
    assert names(controlled).count("controlnet_edges") == 1
    assert_recorded(controlled)


@pytest.fixture
def broken(nets: dict[str, Path], tmp_path: Path) -> Path:
    """A ControlNet whose export fails halfway."""
    folder = shutil.copytree(nets["depth"], tmp_path / "broken")
    path = folder / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.bias"][0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("name", ["depth", "edges"])
def test_a_failure_leaves_the_bundle_as_it_was(
    name: str, controlled: Path, nets: dict[str, Path], broken: Path
) -> None:
    before = contents(controlled)
    with pytest.raises(ExportError, match=f"controlnet_{name}: torch itself gives NaN"):
        add_to_bundle(controlled, controlnets={"first": nets["edges"], name: broken}, replace=True)
    assert contents(controlled) == before


def test_weights_that_are_missing_are_never_made_up(
    plain: Path, nets: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(nets["edges"], tmp_path / "net")
    path = folder / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    first = min(weights)
    del weights[first]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks 1 weights, the first is ") as caught:
        add_to_bundle(plain, controlnets={"edges": folder})
    assert f"the ControlNet '{folder}' lacks" in str(caught.value)
    assert first in str(caught.value)


def test_a_bundle_without_a_controlled_unet_is_reported(plain: Path, nets: dict[str, Path]) -> None:
    document = json.loads((plain / "sdrt.json").read_text())
    document["components"] = [c for c in document["components"] if c["name"] != "unet_controlled"]
    (plain / "sdrt.json").write_text(json.dumps(sealed(document)))
    before = contents(plain)
    with pytest.raises(ExportError, match="has no UNet for ControlNets"):
        add_to_bundle(plain, controlnets=nets)
    assert contents(plain) == before


def test_a_folder_without_a_manifest_is_reported(plain: Path, nets: dict[str, Path]) -> None:
    """It looks like a folder of optimum, but nothing says which files belong to it."""
    (plain / "sdrt.json").unlink()
    (plain / "unet/controlled.onnx").unlink()
    with pytest.raises(
        BundleError, match=r"has the output normed_hidden_states\.0 of text_encoder"
    ):
        add_to_bundle(plain, controlnets=nets)


def test_a_net_for_another_unet_is_reported(plain: Path, tmp_path: Path) -> None:
    net = tiny_controlnet("classic", tmp_path / "net")
    before = contents(plain)
    with pytest.raises(
        CheckpointError, match="cannot be exported: it takes text vectors of 8, the"
    ):
        add_to_bundle(plain, controlnets={"edges": net})
    assert contents(plain) == before


@pytest.mark.parametrize("path", ["gone", "demo"])
def test_where_there_is_no_bundle_nothing_is_added(
    path: str, nets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The built-in demo must not change: "demo" is a folder here."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=f"no bundle at '{path}'"):
        add_to_bundle(path, controlnets=nets)


def test_nothing_is_added_to_the_built_in_bundle(nets: dict[str, Path]) -> None:
    with pytest.raises(ExportError, match=f"^'{DEMO_FOLDER}' is the built-in bundle and stays"):
        add_to_bundle(DEMO_FOLDER, controlnets=nets)


def test_a_bundle_is_not_exported_over_by_mistake(whole: Path, nets: dict[str, Path]) -> None:
    with pytest.raises(SdrtError, match="is exported already"):
        export_checkpoint(whole, whole / "new", controlnets=nets)


def test_two_exports_into_one_bundle_take_turns(plain: Path, nets: dict[str, Path]) -> None:
    before = (plain / "sdrt.json").read_bytes()
    with ThreadPoolExecutor() as pool:
        with only_writer(plain, lambda: pytest.fail("nobody writes")):  # as a build does
            exports = [
                pool.submit(add_to_bundle, plain, controlnets={name: nets[name]}) for name in nets
            ]
            assert not wait(exports, timeout=0.2).done
            assert (plain / "sdrt.json").read_bytes() == before
        for export in exports:
            export.result()
    assert names(plain)[-2:] in (names_of(nets), names_of(reversed(nets)))
    assert_recorded(plain)


def names_of(nets: Iterable[str]) -> list[str]:
    return [f"controlnet_{name}" for name in nets]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vae(tmp_path_factory.mktemp("tiny"), num_levels=3)


def test_a_tiny_vae_is_added_and_replaced_if_asked(
    plain: Path, nets: dict[str, Path], tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(plain)
    given = ["--tiny-vae", str(tiny), "--controlnet", f"edges={nets['edges']}"]
    assert main(["export", *given, "--into", str(plain)]) == 0
    after = contents(plain)
    assert {path: after[path] for path in before} | {"sdrt.json": None} == {
        **before,
        "sdrt.json": None,
    }
    assert_recorded(plain)
    bundle = Bundle.open(plain)
    assert names(plain)[-3:] == ["controlnet_edges", "vae_decoder_tiny", "vae_encoder_tiny"]
    roles: tuple[Role, ...] = ("vae decoder", "vae encoder")
    for role in roles:
        own, added = bundle.find(role), bundle.find(role, variant="tiny")
        assert own is not None
        assert own.variant is None
        assert added is not None
        assert (added.source, added.latents) == (str(tiny), LatentSpace(4, 4, 1.0))
        assert added.parity is not None
        assert added.parity.psnr > 110

    changed = contents(plain)
    assert main(["export", "--tiny-vae", str(tiny), "--into", str(plain)]) == 1
    error = f"'{plain}' already has a tiny VAE: replace it (--replace)"
    assert error in capsys.readouterr().err
    assert contents(plain) == changed
    add_to_bundle(plain, tiny_vae=tiny, replace=True)
    assert names(plain)[-2:] == ["vae_decoder_tiny", "vae_encoder_tiny"]
    assert_recorded(plain)


def test_a_tiny_vae_needs_no_controlled_unet(plain: Path, tiny: Path) -> None:
    remove_component(plain, "unet_controlled")
    add_to_bundle(plain, tiny_vae=tiny)
    assert Bundle.open(plain).has("vae_decoder_tiny")


def test_a_tiny_vae_of_other_latents_leaves_the_bundle_as_it_was(
    plain: Path, nets: dict[str, Path], tmp_path: Path
) -> None:
    before = contents(plain)
    wide = tiny_vae(tmp_path / "wide", num_levels=3, latent_channels=16)
    with pytest.raises(CheckpointError, match="it has 16 latent channels, the UNet has 4"):
        add_to_bundle(plain, controlnets=nets, tiny_vae=wide)
    assert contents(plain) == before
