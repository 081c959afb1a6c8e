"""`sdrt build --target cpu`: networks in ONNX Runtime's optimised form."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sdrt
from sdrt.bundle.demo import DEMO_FOLDER
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import sealed
from sdrt.errors import BundleError
from sdrt.targets.built_graph import PreparedGraph, prepared_graph_of
from sdrt.targets.engines import open_engine, open_reference
from sdrt.targets.runnable import runnable
from sdrt.verification.seeded_inputs import seeded_inputs
from sdrt.verification.verdict import verify_component
from sdrt_engines import EngineError, SdrtError, Signature, Target
from sdrt_engines.prepared_onnx import prepare_onnx, preparer
from sdrt_export.building import prepared_graphs
from support.built_bundle import build_for
from support.command import run_sdrt
from support.damage import overwrite
from support.onnx_writer import onnx_model

pytestmark = [
    pytest.mark.build,
    pytest.mark.skipif(preparer() is None, reason="this system does not report its CPU's features"),
]

NETWORK = "text_encoder"
ALL = [component.name for component in Bundle.open("demo").manifest.components]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, without_torch: str) -> Path:
    """A copy of the demo bundle that was built for this machine's processor."""
    copy = tmp_path_factory.mktemp("cpu") / "demo"
    shutil.copytree(DEMO_FOLDER, copy, ignore=shutil.ignore_patterns("engines"))
    outcome = run_sdrt("build", copy, "--target", "cpu", folder=copy.parent, before=without_torch)
    assert outcome.code == 0, outcome.err
    assert outcome.out == tuple(str(copy / f"engines/cpu/{name}/model.onnx") for name in ALL)
    assert outcome.loaded.isdisjoint({"torch", "onnx", "tensorrt_rtx"})
    return copy


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A bundle to damage."""
    return Path(shutil.copytree(root, tmp_path / "demo"))


def test_the_demo_is_built_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDRT_CACHE", str(tmp_path / "cache"))
    before = sorted(DEMO_FOLDER.rglob("*"))
    command = ("build", "demo", "--target", "cpu", "--component", NETWORK)
    outcome = run_sdrt(*command, folder=tmp_path)
    demo = Bundle.open("demo")
    assert demo.root.is_relative_to(tmp_path / "cache")
    assert outcome.out == (str(demo.root / f"engines/cpu/{NETWORK}/model.onnx"),)
    assert runnable(demo.root, demo.component(NETWORK), Target("cpu")).prepared
    assert sorted(DEMO_FOLDER.rglob("*")) == before
    assert run_sdrt(*command, folder=tmp_path).out == ("everything is already built",)


@pytest.mark.parametrize("name", ALL)
def test_it_gives_the_very_numbers(name: str, root: Path) -> None:
    bundle = Bundle.open(root)
    found = runnable(root, bundle.component(name), Target("cpu"))
    model = f"engines/cpu/{name}/model.onnx"
    assert (found.source.graph, found.files[0].path) == (root / model, model)
    assert found.precision == "fp32"
    for latents in (8, 11):
        feeds = seeded_inputs(bundle, name, latents=latents)
        with (
            open_engine(bundle, name, "cpu", num_threads=1) as prepared,
            open_engine(Bundle.open(DEMO_FOLDER), name, "cpu", num_threads=1) as plain,
        ):
            assert prepared.signature == plain.signature
            got = prepared.run(feeds)
            for output, expected in plain.run(feeds).items():
                np.testing.assert_array_equal(got[output], expected)
    assert verify_component(bundle, name, Target("cpu")).passed


def test_variants_of_the_denoiser_share_their_weights(root: Path) -> None:
    plain, controlled = (
        root / f"engines/cpu/{name}/model.onnx_data" for name in ("unet", "unet_controlled")
    )
    assert plain.samefile(controlled)
    assert not plain.samefile(root / "engines/cpu/text_encoder/model.onnx_data")
    assert sorted(path.name for path in plain.parent.iterdir()) == [
        "model.onnx",
        "model.onnx_data",
        PreparedGraph.RECORD_NAME,
    ]


def test_images_are_the_same(root: Path) -> None:
    images = [
        sdrt.Pipeline.open(bundle, "cpu", 1)("a blue star", seed=3, num_inference_steps=4).images[0]
        for bundle in (root, DEMO_FOLDER)
    ]
    prepared, plain = map(np.asarray, images)
    np.testing.assert_array_equal(prepared, plain)


def test_other_targets_run_the_bundle_s_own(root: Path) -> None:
    bundle = Bundle.open(root)
    component = bundle.component("unet")
    for target in ("openvino", "cuda"):
        assert runnable(root, component, Target(target)).files == component.files


def test_what_is_there_stays(copy: Path) -> None:
    lines: list[str] = []
    assert build_for("cpu", copy, report=lines.append) == []
    assert lines == [f"{name}: already built" for name in ALL]


def change(key: str, value: object) -> Callable[[Path], None]:
    def changed(record: Path) -> None:
        fields = json.loads(record.read_text())
        fields[key] = fields[key] | value if isinstance(value, dict) else value
        record.write_text(json.dumps(sealed(fields)))

    return changed


def without_hashes(record: Path) -> None:
    fields = json.loads(record.read_text())
    for file in fields["files"]:
        file["sha256"] = None
    record.write_text(json.dumps(sealed(fields)))


@pytest.mark.parametrize(
    "spoil",
    [
        change("preparer", {"onnxruntime": "1.30.0"}),
        change("preparer", {"processor": "AMD EPYC, x86_64, 0123456789abcdef"}),
        change("preparer", {"fusions": "0"}),
        change("onnx", {"text_encoder/model.onnx": "0" * 64}),
        lambda record: record.write_text("{"),
        lambda record: record.write_text("{}"),
        change("record_version", 98),
        change("files", []),
        without_hashes,
    ],
)
def test_one_for_another_machine_or_network_is_passed_over_and_replaced(
    spoil: Callable[[Path], object], copy: Path
) -> None:
    spoil(copy / f"engines/cpu/{NETWORK}/{PreparedGraph.RECORD_NAME}")
    bundle = Bundle.open(copy)
    component = bundle.component(NETWORK)
    assert prepared_graph_of(copy, "cpu", component) is None
    assert runnable(copy, component, Target("cpu")).files == component.files
    open_engine(bundle, NETWORK, "cpu").close()
    built = build_for("cpu", copy, components=(NETWORK,))
    assert built == [copy / f"engines/cpu/{NETWORK}/model.onnx"]
    assert prepared_graph_of(copy, "cpu", component) is not None


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx_data"])
def test_a_spoilt_file_is_reported_and_built_again(name: str, copy: Path) -> None:
    path = copy / f"engines/cpu/{NETWORK}/{name}"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    overwrite(path, bytes(data))
    bundle = Bundle.open(copy)
    with pytest.raises(BundleError, match=r"the file has changed: .*: run `sdrt build` again"):
        open_engine(bundle, NETWORK, "cpu")
    with open_reference(bundle, NETWORK):  # the bundle's own is intact
        pass
    assert build_for("cpu", copy, components=(NETWORK,)) != []
    open_engine(bundle, NETWORK, "cpu").close()


def test_a_folder_of_engines_on_another_disk_is_refused(copy: Path) -> None:
    """Paths that lead out of a bundle are not opened, so nothing is built there."""
    (copy / "engines").rename(copy.parent / "elsewhere")
    (copy / "engines").symlink_to(copy.parent / "elsewhere")
    with pytest.raises(
        SdrtError, match=r"engines/cpu' leads out of the bundle, to .*elsewhere/cpu"
    ):
        build_for("cpu", copy, components=(NETWORK,))


def test_what_a_killed_build_has_left_is_cleared_up(copy: Path) -> None:
    left = copy / "engines/cpu/.sdrt-0123abcd"
    (left / "new").mkdir(parents=True)
    (left / "lock").touch()
    (left / "new/model.onnx").write_bytes(b"half")
    build_for("cpu", copy, components=(NETWORK,))
    assert not left.exists()


@pytest.mark.parametrize("fill", [b"\x00", b"\xff"])  # zeros, and NaN
@pytest.mark.parametrize("spoilt", [NETWORK, "vae_encoder"])
def test_a_network_that_would_give_other_numbers_is_not_kept(
    spoilt: str, fill: bytes, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if ONNX Runtime had written other weights, or the wrong ones."""
    shutil.rmtree(copy / "engines/cpu")
    other = Path(shutil.copytree(copy / spoilt, copy.parent / "other"))
    data = other / "model.onnx_data"
    overwrite(data, fill * data.stat().st_size)
    monkeypatch.setattr(
        prepared_graphs, "prepare_onnx", lambda _, model: prepare_onnx(other / "model.onnx", model)
    )
    with pytest.raises(SdrtError, match=f"^{NETWORK}: onnxruntime changed the network while"):
        build_for("cpu", copy, components=(NETWORK,))
    assert not any((copy / "engines/cpu").glob("*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--shapes", "64x64"), "target cpu runs every shape with one graph: leave out --shapes"),
        (("--batch", "2"), "target cpu runs every shape with one graph"),
        (("--prune",), "target cpu runs every shape with one graph"),
        (("--precision", "bf16"), "target cpu computes in float32: leave out --precision"),
    ],
)
def test_unsupported_options_are_reported(
    options: tuple[str, ...], message: str, root: Path
) -> None:
    outcome = run_sdrt("build", root, "--target", "cpu", *options, folder=root.parent)
    assert outcome.code == 2
    assert message in outcome.err[0]


def test_no_room_is_reported_before_any_work(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(copy / "engines")
    usage = shutil.disk_usage(copy)._replace(free=10_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        SdrtError, match=r"needs about \d+ MB, 10 are free: make room, or build few"
    ):
        build_for("cpu", copy)
    assert not (copy / "engines/cpu").exists()


def test_on_an_unknown_processor_nothing_is_prepared(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared_graphs, "preparer", lambda: None)
    with pytest.raises(SdrtError, match="target cpu: this system does not report its processor's"):
        build_for("cpu", copy)


def test_a_disk_that_fills_up_meanwhile_is_reported(tmp_path: Path) -> None:
    """onnxruntime reports a place in its source."""
    unknown = onnx_model(Signature((), ()), [("Unknown", [], ["x"])])
    (tmp_path / "model.onnx").write_bytes(unknown)
    with pytest.raises(OSError, match="No space left on device"):
        prepare_onnx(tmp_path / "model.onnx", tmp_path / "new.onnx", lambda folder: 0)
    with pytest.raises(EngineError, match="cannot be prepared"):
        prepare_onnx(tmp_path / "model.onnx", tmp_path / "new.onnx")
