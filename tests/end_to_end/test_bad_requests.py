"""Wrong usage, requests that cannot be met, and images that cannot be read: one line each."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import sdrt
from sdrt.command_line.main import main
from support.images import sample_image
from support.refusals import DRAW, Capture, refusal

NET = ["export", "--controlnet"]
EXPORT = ["export", "demo", "-o", "x"]
IMAGE, MASK, CONTROL = "--image", "--mask", "--control"

# --- the command line itself


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "argument COMMAND: got 'rnu', did you mean 'run'? (see sdrt --help)"),
        (["run"], "no bundle was given: write sdrt run BUNDLE PROMPT, or give --from-image a"),
        (
            ["run", "bundle"],
            "no prompt was given: write sdrt run BUNDLE PROMPT, or give --from-image a",
        ),
        ([*DRAW, "--guidence-scale", "3"], "no option --guidence-scale, did you mean '--guidance-"),
        ([*DRAW, "--size", "512x512"], "no option --size, did you mean '--width' or '--height'?"),
        ([*DRAW, "--n", "2"], "no option --n, did you mean '--num-images'? (see sdrt run --help)"),
        (
            ["run", "--prompt", "a"],
            "no option --prompt, give it without one: sdrt run BUNDLE PROMPT (see sdrt run",
        ),
        (["export", "demo", "-o", "x", "--force"], "no option --force, did you mean '--replace'?"),
        (
            [*DRAW, "on", "white"],
            "'on' is one argument too many: put quotes around the whole prompt",
        ),
        ([*DRAW, "--seed"], "argument -s/--seed: expected one argument (see sdrt run --help)"),
        ([*DRAW, "--num-threads", "x"], "argument --num-threads: got 'x', expected a whole number"),
        ([*DRAW, "--control-scale=--"], "argument --control-scale: got '--', expected a value"),
        ([*DRAW, "--seed", "x"], "argument -s/--seed: got 'x', expected a whole number (see sdrt"),
        ([*DRAW, "--width", "9.5"], "argument -W/--width: got '9.5', expected a whole number"),
        ([*DRAW, "--resize", "corp"], "argument --resize: got 'corp', did you mean 'crop'? (see"),
        ([*DRAW, "--control", "edges"], "--control: got 'edges', expected NAME=IMAGE"),
        ([*DRAW, "--control-scale", "edges=1"], "--control-scale: got edges=1, there is no --con"),
        ([*DRAW, "--eta", "much"], "argument --eta: got 'much', expected a number (see sdrt run"),
        (
            ["inspect", "bundle", "--jsn"],
            "no option --jsn, did you mean '--json'? (see sdrt inspect",
        ),
        (
            ["export", "demo"],
            "one of the arguments -o/--output --into is required (see sdrt export",
        ),
        (["export", "-o", "x"], "the checkpoint to export is missing (see sdrt export --help)"),
        (
            ["export", "-o", "x", "--into", "y"],
            "argument --into: not allowed with argument -o/--ou",
        ),
        (["export", "--into", "x"], "--into adds to a bundle: it goes with --controlnet NAME=PATH"),
        (
            [*NET, "e=p", "demo", "--into", "x"],
            ", and without a checkpoint (see sdrt export --help)",
        ),
        (
            ["export", "--vae", "v", "--tiny-vae", "t", "--into", "x"],
            "--vae replaces a checkpoint's",
        ),
        ([*NET, "edges", "--into", "x"], "got 'edges', expected NAME=PATH, as in canny=folder"),
        ([*NET, "=path", "--into", "x"], "got '=path', expected NAME=PATH, as in canny=folder"),
        ([*NET, "edges=", "--into", "x"], "got 'edges=', expected NAME=PATH, as in canny=folder"),
        (
            [*NET, "e=a", "--controlnet", "e=b", "--into", "x"],
            "argument --controlnet: 'e' is given twice: give each ControlNet its own name",
        ),
        ([*EXPORT, "--lora", ":0.8"], "got ':0.8', expected PATH or PATH:SCALE, as in style.safet"),
        ([*EXPORT, "--lora", ""], "argument --lora: got '', expected PATH or PATH:SCALE, as in"),
        ([*EXPORT, "--lora", "a:nan"], "argument --lora: got the scale 'nan', expected a number"),
        ([*EXPORT, "--lora", "a:-inf"], "argument --lora: got the scale '-inf', expected a number"),
        ([*NET, "e=p", "--lora", "a", "--into", "x"], "--lora merges into the weights of a check"),
        (
            ["export", "--lora", "a", "--into", "x"],
            "--lora merges into the weights of a checkpoint",
        ),
        (
            ["export", "--vae", "v", "--into", "x"],
            "--vae replaces a checkpoint's VAE, which a bund",
        ),
        (["export", "demo", "-o", "x", "--weights", "fp8"], "argument --weights: got 'fp8', known"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, folder: Path, capsys: Capture) -> None:
    assert message in refusal(arguments, folder, capsys, code=2)


# --- what is asked for


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheduler", "eluer"], "scheduler 'eluer' is unknown: did you mean 'euler'?"),
        (["--scheduler", "DDIMSheduler"], "did you mean 'DDIMScheduler'?"),
        (["--scheduler", "DPM++ SDE Karras"], "use the nearest, 'dpmpp_2m_sde_karras'"),
        (["--scheduler", "DDIM Karras"], "scheduler 'ddim_karras' does not exist: ddim has no use"),
        (
            ["--scheduler", "euler", "--eta", "1"],
            "EulerDiscreteScheduler takes no eta: these schedulers do:",
        ),
        (["--target", "cdua"], "unknown target 'cdua': did you mean 'cuda'?"),
        (["--target", "gpu"], "unknown target 'gpu': did you mean 'cuda'?"),
        (
            ["--target", "tensorrt"],
            "tensorrt is not installed: pip install 'sdrt[tensorrt]'",
        ),
        (
            ["--num-threads", "0"],
            "num_threads: got 0, expected a whole number from 1 to ",
        ),
        (
            ["--num-threads", "2", "--target", "cuda"],
            "num_threads: got 2, but target 'cuda' does not compute on threads of the CPU",
        ),
        (["-W", "100"], "width: got 100, expected a multiple of 8, such as 96 or 104"),
        (["-H", "7"], "height: got 7, expected a whole number from 8 to 8192"),
        (["-H", "0"], "height: got 0, expected a whole number from 8 to 8192"),
        (["-W", "-64"], "width: got -64, expected a whole number from 8 to 8192"),
        (["-W", "1000000"], "width: got 1000000, expected a whole number from 8 to 8192"),
        (["--steps", "0"], "num_inference_steps: got 0, expected a whole number from 1 to 1000"),
        (["--steps", "-5"], "num_inference_steps: got -5, expected a whole number from 1 to 1000"),
        (["--steps", "99999"], "num_inference_steps: got 99999, expected a whole number from 1 to"),
        (["--guidance-scale", "nan"], "guidance_scale: got nan, expected a number from 0 to 1000"),
        (["--guidance-scale", "inf"], "guidance_scale: got inf, expected a number from 0 to 1000"),
        (["--guidance-scale", "-1"], "guidance_scale: got -1.0, expected a number from 0 to 1000"),
        (["--guidance-rescale", "2"], "guidance_rescale: got 2.0, expected a number from 0 to 1"),
        (["--eta", "nan"], "eta: got nan, expected a number from 0 to 1"),
        (["--seed", "-1"], "seed: got -1, expected a whole number from 0 to 18446744073709551615"),
        (["--seed", str(2**64)], "seed: got 18446744073709551616, expected a whole number from 0"),
        (["--num-images", "0"], "num_images_per_prompt: got 0, expected a whole number from 1 to"),
        (["--clip-skip", "-1"], "clip_skip: got -1, expected a whole number from 0 to 100"),
        (
            ["-o", "out.jpg"],
            "out.jpg: sdrt writes PNGs only, which can record their parameters: name it",
        ),
        (["-o", "gone/out.png"], "gone/out.png: there is no folder 'gone': create it first"),
        (["-o", "folder.png"], "folder.png: is a folder, expected the name of a PNG to write"),
        (["-o", "/proc/out.png"], "/proc/out.png: cannot be written: "),
        (["-o", f"{'x' * 300}.png"], ".png: cannot be written: File name too long: choose another"),
        (["--from-image", "gone.png"], "gone.png cannot be read: No such file"),
        (["--from-image", "notes.txt"], "notes.txt is not a PNG, or it is broken: only PNGs"),
        (["--from-image", "bare.png"], "bare.png does not say how it was made: it has no 'sdrt'"),
    ],
)
def test_impossible_requests(
    options: list[str], message: str, folder: Path, capsys: Capture
) -> None:
    (folder / "folder.png").mkdir()
    (folder / "notes.txt").write_text("a red circle")
    Image.new("RGB", (8, 8)).save("bare.png")
    assert message in refusal([*DRAW, *options], folder, capsys)


def half_a_jpeg(path: Path) -> None:
    sample_image(64, 64).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            [IMAGE, "gone.png"],
            "image: 'gone.png' cannot be read: No such file or directory: give",
        ),
        ([IMAGE, ""], "image: '' cannot be read: Is a directory: give the path of an image"),
        (
            [IMAGE, "bundle"],
            "image: 'bundle' cannot be read: Is a directory: give the path of an image",
        ),
        ([IMAGE, "empty.png"], "image: 'empty.png' is not an image that Pillow can read"),
        ([IMAGE, "half.jpg"], "image: 'half.jpg' cannot be read: image file is truncated"),
        ([IMAGE, "large.png"], "expected 67 megapixels at most: reduce its size"),
        ([IMAGE, "in.png", MASK, "gone.png"], "mask_image: 'gone.png' cannot be read: No such"),
        (
            [IMAGE, "in.png", MASK, "wide.png"],
            "mask_image: got 96×64 pixels, expected 64×64 like the",
        ),
        ([MASK, "in.png"], "mask_image was given without image: give both, or neither"),
        (["--strength", "0.5"], "strength was given without image: give both, or neither"),
        (["--strength", "0"], "strength was given without image: give both, or neither"),
        (
            [IMAGE, "in.png", "--strength", "1.5"],
            "strength: got 1.5, expected a number from 0 to 1",
        ),
        (
            [IMAGE, "in.png", "--strength", "nan"],
            "strength: got nan, expected a number from 0 to 1",
        ),
        ([IMAGE, "in.png", "--strength", "-0.1"], "strength: got -0.1, expected a number from 0"),
        (
            [IMAGE, "in.png", "--strength", "0"],
            "strength: got 0, which runs none of the 1 steps: give",
        ),
        ([IMAGE, "in.png", "--padding-mask-crop", "8"], "padding_mask_crop was given without mask"),
        (
            [IMAGE, "wide.png", "--strength", "1", "-W", "64", "-H", "64"],
            "image: got 96×64 pixels for a result of 64×64: set resize to crop, ",
        ),
        (["--resize", "crop"], "resize was given without an image: give image or control, too"),
        ([CONTROL, "egdes=in.png"], "no ControlNet 'egdes', did you mean 'edges'? this bundle has"),
        ([CONTROL, "pose=in.png"], "control: no ControlNet 'pose': this bundle has edges"),
        ([CONTROL, "edges=gone.png"], "control image: 'gone.png' cannot be read: No such file"),
        (
            [IMAGE, "in.png", "--strength", "1", CONTROL, "edges=wide.png"],
            "control image 'edges': got 96×64 pixels for a result of 64×64: set resize to crop",
        ),
        (
            [CONTROL, "edges=in.png", "--control-scale", "edges=nan"],
            "control scale: got nan, expected a number from -10 to 10",
        ),
        (
            [CONTROL, "edges=in.png", "--control-window", "edges=0.6:0.6"],
            "control window: got start 0.6 and end 0.6, expected a start before the end",
        ),
        (
            [CONTROL, "edges=in.png", "--annotate", "edges=cany"],
            "annotator: got 'cany', did you mean 'canny'?",
        ),
        (["--guess-mode"], "guess_mode was given without control: give both, or neither"),
    ],
)
def test_impossible_images(options: list[str], message: str, folder: Path, capsys: Capture) -> None:
    sample_image(64, 64).save("in.png")
    sample_image(96, 64).save("wide.png")
    (folder / "empty.png").touch()
    half_a_jpeg(folder / "half.jpg")
    if "large.png" in options:
        Image.new("1", (10_000, 10_000)).save("large.png")
    assert message in refusal([*DRAW, *options], folder, capsys)


@pytest.mark.usefixtures("folder")
def test_an_empty_list_of_prompts() -> None:
    pipeline = sdrt.Pipeline.open("bundle")
    with pytest.raises(sdrt.SdrtError, match="prompt: got an empty list, expected at least one"):
        pipeline([])


def test_without_a_command_there_is_help(capsys: Capture) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("usage: sdrt ") and "generate images" in err
