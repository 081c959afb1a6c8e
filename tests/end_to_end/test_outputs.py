"""`sdrt run`: the files that it writes, those that it must not, and files from strangers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdrt.command_line.main import main
from support.images import mask, sample_image

RUN = ["run", "bundle", "a red circle", "--steps", "2", "--target", "cpu", "-W", "64", "-H", "64"]
FROM_IMAGE = ["run", "--from-image", "one.png", "--target", "cpu"]


@pytest.fixture(autouse=True)
def images(folder: Path) -> None:
    sample_image(64, 64).save("in.png")
    mask(64, 64, (16, 16, 32, 32)).save("mask.png")


def png_with(**texts: str) -> None:
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key, value)
    Image.new("RGB", (8, 8)).save("one.png", pnginfo=info)


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused command prints."""
    assert main(arguments) in (1, 2)
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert len(err) < 500
    return err


def notes_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(arguments) == 0
    lines = capsys.readouterr().err.splitlines()
    return [line.removeprefix("sdrt: note: ") for line in lines if line.startswith("sdrt: note")]


# --- what is written


def test_the_default_name_replaces_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    for prompt in ("a red circle", "a blue star"):
        assert main([*RUN[:2], prompt, *RUN[3:], "--seed", "7"]) == 0
    assert capsys.readouterr().out == "sdrt-7.png\nsdrt-7_2.png\n"
    assert Path("sdrt-7.png").read_bytes() != Path("sdrt-7_2.png").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ["--image", "in.png", "-o", "in.png"],
        ["--image", "in.png", "-o", "link.png"],
        ["--image", "in.png", "--mask", "mask.png", "-o", "mask.png"],
        ["--control", "edges=in.png", "-o", "in.png"],
        ["--image", "in-2.png", "--num-images", "2", "-o", "in.png"],
    ],
)
def test_an_input_is_not_replaced(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    sample_image(64, 64).save("in-2.png")
    Path("link.png").symlink_to("in.png")
    Path("bundle/unet/model.onnx").write_text("broken, but never opened")
    before = {path: path.read_bytes() for path in Path().glob("*.png")}
    assert "which would be lost: choose another name" in error_of([*RUN, *options], capsys)
    assert {path: path.read_bytes() for path in Path().glob("*.png")} == before


def test_the_image_that_lends_its_parameters_is_not_replaced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    png_with(sdrt=json.dumps({"prompt": "a", "bundle": "bundle"}))
    assert "one.png: this is the input" in error_of([*FROM_IMAGE, "-o", "one.png"], capsys)


def test_metadata_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--image", "in.png", "--strength", "0.5", "--seed", "3", "-o"]
    assert main([*RUN, *options, "one.png", "--metadata", "no-paths"]) == 0
    assert b"in.png" not in Path("one.png").read_bytes()
    again = [*FROM_IMAGE[:1], "bundle", *FROM_IMAGE[1:], "-o", "again.png", "-W", "64"]
    assert "one.png: the original has a strength, so" in notes_of(again, capsys)[0]
    assert main([*RUN, *options, "none.png", "--metadata", "none"]) == 0
    with Image.open("none.png") as image:
        image.load()
        assert not {"sdrt", "parameters"} & image.info.keys()


def test_an_input_that_has_changed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--image", "in.png", "--mask", "mask.png", "--seed", "3", "-o", "one.png"]
    assert main([*RUN, *options]) == 0
    assert notes_of([*FROM_IMAGE, "-o", "again.png"], capsys)[1:] == []
    sample_image(64, 64, seed=1).save("in.png")
    note = notes_of([*FROM_IMAGE, "-o", "again.png"], capsys)[0]
    path = Path("in.png").resolve()
    assert note == (
        f"one.png: '{path}' has changed since the original was made: the image will differ"
    )
    given = [*FROM_IMAGE, "--image", "mask.png", "-o", "again.png"]
    assert all("has changed" not in line for line in notes_of(given, capsys))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("x" * 300 + ".png", "cannot be written: File name too long: choose another place"),
        ("loop.png", "cannot be written"),
        ("fifo.png", "is a device or a FIFO, expected the name of a PNG to write"),
        ("a\0b.png", "cannot be written: embedded null"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_first(
    output: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("loop.png").symlink_to("loop.png")
    os.mkfifo("fifo.png")
    Path("bundle/unet/model.onnx").write_text("broken, but never opened")
    assert main([*RUN, "-o", output]) == 1
    assert message in capsys.readouterr().err


def test_a_long_name_is_written_or_refused_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Not after all steps, because the name of a draft is longer than that of the image."""
    sound = Path("bundle/unet/model.onnx").read_bytes()
    name = "猫" * 80 + ".png"  # 244 bytes; 255 are allowed
    Path("bundle/unet/model.onnx").write_text("broken")
    assert main([*RUN, "-o", name]) == 1
    is_refused = "File name too long" in capsys.readouterr().err
    Path("bundle/unet/model.onnx").write_bytes(sound)
    assert main([*RUN, "-o", name]) == is_refused
    assert Path(name).exists() != is_refused


# --- files from strangers


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [a_fifo, a_device])
@pytest.mark.parametrize(
    "arguments",
    [
        [*RUN, "--image", "x"],
        [*RUN, "--image", "in.png", "--mask", "x"],
        [*RUN, "--control", "edges=x"],
        ["run", "--from-image", "x"],
    ],
)
def test_only_files_are_read(
    make: Callable[[Path], None], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    make(Path("x"))
    assert "cannot be read: Is a " in error_of(arguments, capsys)


@pytest.mark.parametrize(
    "name", ["sdrt.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt"]
)
def test_only_files_of_a_bundle_are_read(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bundle", name).unlink()
    os.mkfifo(Path("bundle", name))
    assert main(RUN) == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"seed": ' + "9" * 5000 + "}",
        "{" + '"prompt": "a", "bundle": ' + "9" * 4000 + "}",
    ],
)
def test_absurd_json_is_one_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    png_with(sdrt=text)
    error_of(["run", "--from-image", "one.png"], capsys)


DEEP: Any = 1
for _ in range(900):
    DEEP = [DEEP]
ABSURD: list[Any] = ["x" * 4000, 10**400, -1, [], {}, {"a": {"b": 1}}, DEEP, True, "a\0b", "\ud800"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (field, value)
        for field in ("bundle", "image", "mask_image", "control", "files")
        for value in ABSURD
        if not (field in ("control", "files") and value == {})
    ],
    ids=lambda value: repr(value)[:12],
)
def test_a_wrong_value_in_the_parameters_is_one_line(
    field: str, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = {"prompt": "a", "bundle": "bundle", "image": "in.png"} | {field: value}
    png_with(sdrt=json.dumps(parameters))
    error_of(["run", "--from-image", "one.png"], capsys)


@pytest.mark.parametrize("value", [DEEP, {"scale": DEEP}, {"annotate": DEEP}, {"image": DEEP}])
def test_a_wrong_control_is_one_line(value: object, capsys: pytest.CaptureFixture[str]) -> None:
    control = {"edges": {"image": "in.png"} | value if isinstance(value, dict) else value}
    png_with(sdrt=json.dumps({"prompt": "a", "bundle": "bundle", "control": control}))
    error_of(["run", "--from-image", "one.png"], capsys)


def test_a_bundle_of_ones_own_replaces_a_wrong_one(capsys: pytest.CaptureFixture[str]) -> None:
    png_with(sdrt=json.dumps({"prompt": "a", "bundle": 5, "num_inference_steps": 1}))
    assert main([*FROM_IMAGE[:1], "bundle", *FROM_IMAGE[1:], "-o", "out.png"]) == 0


def test_what_a1111_did_and_sdrt_does_not_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    fields = "Steps: 2, Sampler: Euler a, CFG scale: 5, Seed: 7, Size: 64x64"
    png_with(parameters=f"a circle <lora:foo:0.8>\nNegative prompt: blurry\n{fields}\nTemplate: x")
    notes = notes_of([*FROM_IMAGE[:1], "bundle", *FROM_IMAGE[1:], "-o", "out.png"], capsys)
    assert notes[-1] == (
        "prompt: <lora:foo:0.8> is left out: add a LoRA to the bundle at export, with "
        "`sdrt export --lora FILE:SCALE`"
    )
    with Image.open("out.png") as image:
        record = json.loads(image.info["sdrt"])
    assert (record["prompt"], record["negative_prompt"], record["seed"], record["width"]) == (
        *("a circle <lora:foo:0.8>", "blurry"),
        *(7, 64),
    )
