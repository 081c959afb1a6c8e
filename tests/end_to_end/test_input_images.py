"""`sdrt run` with images, masks and ControlNets, over real networks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdrt.command_line.main import main
from support.command import run_sdrt
from support.images import mask, sample_image
from support.toy_bundle import write_toy_bundle

DRAW = ["run", "bundle", "a red circle", "--steps", "4", "--seed", "3", "--target", "cpu"]
WAYS = {
    "image": ["--image", "in.png", "--strength", "0.6"],
    "mask": ["--image", "in.png", "--mask", "mask.png"],
    "around the mask": ["--image", "in.png", "--mask", "mask.png", "--padding-mask-crop", "4"],
    "resize": ["--image", "in.png", "--resize", "pad", "-W", "96", "-H", "48"],
    "control": [
        *("--control", "edges=edges.png", "--control-scale", "edges=0.8"),
        *("--control-window", "edges=0.0:0.6"),
    ],
    "annotate": ["--control", "edges=in.png", "--annotate", "edges=canny", "--guess-mode"],
    "all": [
        *("--image", "in.png", "--mask", "mask.png", "--strength", "0.9"),
        *("--control", "edges=edges.png"),
    ],
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, next to a bundle and some images."""
    monkeypatch.chdir(tmp_path)
    write_toy_bundle(tmp_path / "bundle")
    sample_image(64, 48).save("in.png")
    sample_image(64, 48, seed=1).save("edges.png")
    mask(64, 48, (16, 8, 40, 32)).save("mask.png")
    return tmp_path


def recorded(path: str) -> dict[str, object]:
    with Image.open(path) as image:
        record: dict[str, object] = json.loads(image.info["sdrt"])
        return record


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            options, id=name, marks=[pytest.mark.needs("cv2")] if "--annotate" in options else []
        )
        for name, options in WAYS.items()
    ],
)
def test_an_image_is_made_again_bit_for_bit(
    options: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*DRAW, *options, "-o", "one.png"]) == 0
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")  # images are found at their old paths
    assert main(["run", "--from-image", "../one.png", "--target", "cpu", "-o", "again.png"]) == 0
    assert Path("again.png").read_bytes() == Path("../one.png").read_bytes()
    assert main([*DRAW[:1], "../bundle", *DRAW[2:], "-W", "64", "-H", "48", "-o", "plain.png"]) == 0
    assert not np.array_equal(pixels("plain.png"), pixels("../one.png"))


def test_a_png_says_which_images_it_was_made_from(folder: Path) -> None:
    assert main([*DRAW, *WAYS["all"], "--control-scale", "edges=0.5", "-o", "one.png"]) == 0
    said = recorded("one.png")
    assert said["image"] == str(folder / "in.png")
    assert said["mask_image"] == str(folder / "mask.png")
    assert said["strength"] == 0.9
    assert said["control"] == {
        "edges": {"image": str(folder / "edges.png"), "scale": 0.5, "start": 0.0, "end": 1.0}
    }
    with Image.open("one.png") as image:
        assert "Denoising strength: 0.9" in image.info["parameters"]


def test_text_to_image_says_nothing_of_images() -> None:
    assert main([*DRAW, "-o", "one.png"]) == 0
    of_images = {"image", "mask_image", "strength", "padding_mask_crop", "resize", "control"}
    assert not recorded("one.png").keys() & {*of_images, "guess_mode"}


@pytest.mark.needs("cv2")
def test_options_change_what_a_png_says() -> None:
    assert main([*DRAW, *WAYS["annotate"], "-o", "one.png"]) == 0
    changes = ["--control-scale", "edges=0.5", "--no-guess-mode"]
    assert main(["run", "--from-image", "one.png", *changes, "-o", "other.png"]) == 0
    one, other = recorded("one.png"), recorded("other.png")
    assert one.pop("guess_mode") is True
    one["control"]["edges"]["scale"] = 0.5  # type: ignore[index]
    assert other == one


def test_the_image_stays_where_the_mask_is_black() -> None:
    assert main([*DRAW, *WAYS["around the mask"], "-o", "out.png"]) == 0
    kept = pixels("mask.png") == 0
    np.testing.assert_array_equal(pixels("out.png")[kept], pixels("in.png")[kept])
    assert (pixels("out.png")[~kept] != pixels("in.png")[~kept]).any()


@pytest.mark.parametrize("mode", ["RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "F"])
def test_every_kind_of_image(mode: str) -> None:
    grey = sample_image(64, 48).convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) << 8)
    else:
        image = (grey if mode == "F" else sample_image(64, 48)).convert(mode)
    image.save("in.tif")
    options = ["--image", "in.tif", "--control", "edges=in.tif", "-o", "out.png"]
    assert main([*DRAW, *options]) == 0
    assert pixels("out.png").shape == (48, 64, 3)


def test_without_control_nothing_of_it_is_read(folder: Path) -> None:
    for path in ("unet/controlled.onnx", "controlnet_edges/model.onnx", "vae_encoder/model.onnx"):
        (folder / "bundle" / path).unlink()
    assert main([*DRAW, "-o", "out.png"]) == 0


@pytest.mark.needs("cv2")
def test_opencv_is_loaded_for_annotating_only(folder: Path) -> None:
    plain = run_sdrt(*DRAW, *WAYS["control"], "-o", "out.png", folder=folder)
    annotated = run_sdrt(*DRAW, *WAYS["annotate"], "-o", "out.png", folder=folder)
    assert plain.code == annotated.code == 0
    assert "cv2" not in plain.loaded
    assert "cv2" in annotated.loaded


# --- what a PNG cannot say


def test_images_that_are_gone_are_reported(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert main([*DRAW, *WAYS["image"], "-o", "one.png", "--quiet"]) == 0
    Path("in.png").unlink()
    assert main(["run", "--from-image", "one.png", "-o", "again.png"]) == 1
    assert capsys.readouterr().err == (
        f"sdrt: image: '{folder / 'in.png'}' cannot be read: No such file or directory: give "
        "the path of an image\n"
    )
    assert not Path("again.png").exists()


def test_a_png_that_does_not_name_its_image_begins_at_noise(folder: Path) -> None:
    """A1111 also writes a strength for images that it has enlarged."""
    texts = PngInfo()
    said = "Steps: 2, Sampler: Euler, Seed: 5, Size: 64x48, Denoising strength: 0.7"
    texts.add_text("parameters", f"a red circle\n{said}")
    Image.new("RGB", (8, 8)).save("other.png", pnginfo=texts)
    command = ["run", "bundle", "--from-image", "other.png", "--target", "cpu", "-o", "out.png"]
    outcome = run_sdrt(*command, folder=folder)
    assert outcome.code == 0
    assert outcome.err[0] == (
        "sdrt: warning: other.png was made from another image, which it does not name: give that "
        "image with --image, or the new image starts from noise"
    )
    assert "strength" not in recorded("out.png")
    assert run_sdrt(*command, "--image", "in.png", folder=folder).code == 0
    assert recorded("out.png")["strength"] == 0.7


def test_a_large_image_is_one_line_on_a_terminal(folder: Path) -> None:
    Image.new("1", (10_000, 10_000)).save("large.png")
    outcome = run_sdrt(*DRAW, "--image", "large.png", folder=folder)
    assert outcome.code == 1
    assert outcome.err == (
        "sdrt: image: got 10000×10000 pixels: expected 67 megapixels at most: reduce its size",
    )


def test_a_bundle_without_vae_encoder_is_reported_before_any_network_opens(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Like optimum's folders: no manifest, only the files that exist."""
    bundle = folder / "bundle"
    (bundle / "sdrt.json").unlink()
    shutil.rmtree(bundle / "vae_encoder")
    assert main([*DRAW, *WAYS["image"], "-o", "out.png"]) == 1
    assert capsys.readouterr().err == (
        "sdrt: image: this bundle has no vae_encoder, which reads images: export the checkpoint "
        "again\n"
    )
    assert not Path("out.png").exists()


def test_the_size_that_was_cut_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    sample_image(100, 60).save("odd.png")
    assert main([*DRAW, "--image", "odd.png", "-o", "out.png"]) == 0
    assert pixels("out.png").shape == (56, 96, 3)
    assert "note: the input image has 100×60 pixels, the result 96×56" in capsys.readouterr().err
