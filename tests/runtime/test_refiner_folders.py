"""A bundle and its refiner, as two folders: files, memory, images, targets."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdrt import Bundle, BundleError, Control, Pipeline, Request
from sdrt.bundle.manifest import FileRecord
from sdrt.command_line.main import main
from sdrt.targets.engines import open_engine
from sdrt.targets.resolving import resolve
from sdrt_engines import (
    Array,
    Engine,
    EngineError,
    FunctionEngine,
    Resolution,
    Target,
    TargetError,
    resolve_target,
)
from support.backends import opening
from support.built_records import write_half_graph
from support.function_networks import (
    CIRCLE,
)
from support.images import sample_image
from support.toy_bundle import write_toy_bundle

IMAGE = sample_image(64, 48)
SHORT: dict[str, Any] = {"num_inference_steps": 5, "seed": 0, "width": 64, "height": 48}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("two")
    base, refiner = (write_toy_bundle(folder / name) for name in ("base", "refiner"))
    return base, refiner


def run(*arguments: object) -> int:
    return main(["run", *map(str, arguments), "--target", "cpu", "--quiet"])


def test_an_image_records_both(folders: tuple[Path, Path], tmp_path: Path) -> None:
    base, refiner = folders
    first, again = tmp_path / "1.png", tmp_path / "2.png"
    options = ["-W", 64, "-H", 64, "--steps", 5, "--seed", 3, "--refiner-start", 0.5]
    assert run(base, "a red circle", "--refiner", refiner, *options, "-o", first) == 0
    assert run("--from-image", first, "-o", again) == 0
    recorded = parameters_of(first)
    assert recorded == parameters_of(again)
    assert recorded["refiner_start"] == 0.5
    assert not Path(recorded["refiner"]).is_absolute()
    assert (tmp_path / recorded["refiner"]).resolve() == refiner
    with Image.open(first) as image, Image.open(again) as same:
        assert f"Refiner: {refiner.name}, Refiner switch at: 0.5" in image.info["parameters"]
        np.testing.assert_array_equal(np.asarray(image), np.asarray(same))


def parameters_of(path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        parameters: dict[str, Any] = json.loads(image.info["sdrt"])
        return parameters


def test_an_a1111_image_names_no_path(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    text = "a red circle\nSteps: 2, Sampler: DDIM, Seed: 1, Size: 64x64, "
    info = PngInfo()
    info.add_text("parameters", text + "Refiner: sd_xl_refiner_1.0, Refiner switch at: 0.8")
    Image.new("RGB", (8, 8)).save(tmp_path / "theirs.png", pnginfo=info)
    bundle = write_toy_bundle(tmp_path / "bundle")
    options = [bundle, "--from-image", tmp_path / "theirs.png", "-o", tmp_path / "ours.png"]
    assert main(["run", *map(str, options)]) == 0
    notes = capsys.readouterr().err
    assert "finished by a refiner, whose path is unknown: give it with --refiner" in notes
    assert "does not honour" not in notes


def test_both_are_verified(folders: tuple[Path, Path], tmp_path: Path) -> None:
    base, refiner = (shutil.copytree(folder, tmp_path / folder.name) for folder in folders)
    weights = refiner / "unet" / "model.onnx_data"
    weights.write_bytes(weights.read_bytes()[::-1])
    with (
        Pipeline.open(base, "cpu", refiner=refiner) as pipe,
        pytest.raises(BundleError, match=r"refiner/unet/model\.onnx_data"),
    ):
        pipe(CIRCLE, **SHORT)


def test_the_forecast_counts_both(folders: tuple[Path, Path]) -> None:
    base, refiner = folders
    with Pipeline.open(base, "cpu", refiner=refiner) as pipe:
        request = Request(CIRCLE, **SHORT)
        alone = pipe.forecast(replace(request, refiner_start=1.0))
        assert pipe.forecast(request).peak > alone.peak
        pipe(request)
        assert pipe.forecast(request).further == 0


def test_the_forecast_reads_each_bundle_s_own_sizes(folders: tuple[Path, Path]) -> None:
    base, refiner = map(Bundle.open, folders)
    components = [
        replace(each, files=(*each.files, FileRecord("more", None, 2**30)))
        for each in refiner.manifest.components
        if each.name == "unet"
    ]
    others = [each for each in refiner.manifest.components if each.name != "unet"]
    manifest = replace(refiner.manifest, components=(*components, *others))
    refined = base.refined_by(replace(refiner, manifest=manifest))
    with Pipeline(refined, resolve_target("cpu")) as pipe:
        assert pipe.forecast(Request(CIRCLE, **SHORT)).peak > 2**30


# --- one target for both


def test_a_target_needs_the_files_of_both(folders: tuple[Path, Path], tmp_path: Path) -> None:
    base, refiner = (shutil.copytree(folder, tmp_path / folder.name) for folder in folders)
    refined = Bundle.open(base).refined_by(Bundle.open(refiner))
    backends = [opening("tensorrt-rtx"), opening("cpu")]
    (base / "engines" / "tensorrt-rtx").mkdir(parents=True)
    with pytest.raises(TargetError, match=f"'{refiner}' has no engines for tensorrt-rtx"):
        resolve(refined, "tensorrt-rtx", backends)
    assert resolve(refined, "auto", backends).target == Target("cpu")
    (refiner / "engines" / "tensorrt-rtx").mkdir(parents=True)
    assert resolve(refined, "auto", backends).target == Target("tensorrt-rtx")


def test_auto_admits_a_target_for_both(folders: tuple[Path, Path], tmp_path: Path) -> None:
    base, refiner = (shutil.copytree(folder, tmp_path / folder.name) for folder in folders)
    refined = Bundle.open(base).refined_by(Bundle.open(refiner))
    backends = [opening("cuda"), opening("cpu")]
    write_half_graph(refiner, refined.component("refiner.unet"), psnr=29.0)
    assert resolve(refined, "auto", backends).target == Target("cpu")
    write_half_graph(refiner, refined.component("refiner.unet"), psnr=40.0)
    assert resolve(refined, "auto", backends).target == Target("cuda")


def lost(feeds: dict[str, Array]) -> dict[str, Array]:
    raise EngineError("refiner: device lost")


def test_auto_continues_with_both_on_the_next_target(folders: tuple[Path, Path]) -> None:
    base, refiner = map(Bundle.open, folders)
    refined = base.refined_by(refiner)
    engines: dict[str, Engine] = {
        name: open_engine(*refined.owner_of(name), "cpu") for name in refined.components
    }
    signature = engines["refiner.unet"].signature
    engines["refiner.unet"] = FunctionEngine(signature, lost, name="refiner.unet")
    resolution = Resolution(Target("cuda"), others=[opening("cpu")])
    with Pipeline(refined, resolution, engines) as pipe:
        result = pipe(CIRCLE, **SHORT)
    assert "cuda" in result.engine
    assert "device lost" in result.engine
    with Pipeline.open(folders[0], "cpu", refiner=folders[1]) as pipe:
        np.testing.assert_array_equal(result.latents, pipe(CIRCLE, **SHORT).latents)


def test_controlnets_steer_the_bundle_s_own_part(folders: tuple[Path, Path]) -> None:
    with Pipeline.open(folders[0], "cpu", refiner=folders[1]) as pipe:
        controls = {"edges": Control(IMAGE, end=0.5)}
        plain, steered = (pipe(CIRCLE, control=control, **SHORT) for control in ({}, controls))
        assert {"controlnet", "refiner_denoiser"} <= steered.timings.seconds.keys()
        assert not np.array_equal(plain.latents, steered.latents)
