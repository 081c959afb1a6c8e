"""The command line as a user types it, over the built-in demo model."""

from __future__ import annotations

import json
import signal
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rich.console import Console

import sdrt
from sdrt.bundle.demo import DEMO_FOLDER
from sdrt.command_line.main import main
from sdrt.command_line.progress import shown
from sdrt.errors import BundleError
from sdrt.result import Step
from support.command import Outcome, run_sdrt
from support.toy_bundle import write_toy_bundle

PROMPT = "a large red circle on a white background"
NOT_FOR_RUNNING = (
    *("torch", "transformers", "diffusers", "onnx", "onnxscript", "safetensors"),
    *("huggingface_hub", "sdrt_export", "pytest"),
)
BATCH = {
    "prompt": PROMPT,
    "negative_prompt": "a small blue star",
    "num_inference_steps": 2,
    "guidance_scale": 4.5,
    "guidance_rescale": 0.25,
    "scheduler": "dpmpp_2m_karras",
    "width": 64,
    "height": 96,
    "clip_skip": 1,
}
OPTIONS = {"num_inference_steps": "steps"}  # the others have diffusers' names
RECORDED = BATCH | {
    "num_images_per_prompt": 1,
    "eta": 0.0,
    "bundle": "demo",
    "prompt_syntax": "plain",
}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def recorded(path: Path) -> dict[str, object]:
    with Image.open(path) as image:
        record: dict[str, object] = json.loads(image.info["sdrt"])
        return record


# --- sdrt run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def batch(folder: Path) -> Outcome:
    """Two images in one process, with every option that a scheduler other than DDIM takes."""
    options = []
    for name, value in BATCH.items():
        if name != "prompt":
            options += [f"--{OPTIONS.get(name, name).replace('_', '-')}", value]
    count = ("--num-images", 2, "--seed", 7, "--target", "cpu")
    return run_sdrt("run", "demo", PROMPT, *options, *count, "-o", "out.png", folder=folder)


def test_a_batch_is_one_image_per_seed(batch: Outcome, folder: Path) -> None:
    assert batch.code == 0
    assert batch.out == ("out-1.png", "out-2.png")
    assert sorted(path.name for path in folder.iterdir()) == ["out-1.png", "out-2.png"]
    first, second = (pixels(folder / name) for name in batch.out)
    assert first.shape == second.shape == (96, 64, 3)
    assert (first != second).any()


def test_the_terminal_reports_where_the_time_went(batch: Outcome) -> None:
    note, line = batch.err
    assert note.startswith("sdrt: note: width and height: 64×96 pixels are far from the 128×128")
    assert line.startswith("2 × 64×96, 2 steps on cpu in ")
    assert ", text encoder " in line


@pytest.mark.parametrize("module", NOT_FOR_RUNNING)
def test_running_does_not_load(batch: Outcome, module: str) -> None:
    assert "onnxruntime" in batch.loaded
    assert module not in batch.loaded


def test_auto_loads_no_library_after_the_one_that_it_takes(tmp_path: Path) -> None:
    size = ("-W", 64, "-H", 64, "--steps", 1, "-o", "out.png")
    outcome = run_sdrt("run", "demo", PROMPT, *size, folder=tmp_path)
    if not any(" on cpu in " in line for line in outcome.err):
        pytest.skip("this machine has a GPU")
    assert "onnxruntime" in outcome.loaded
    assert "openvino" not in outcome.loaded


def test_rich_is_loaded_for_a_terminal_only(batch: Outcome) -> None:
    assert "rich" not in batch.loaded


@pytest.mark.parametrize(("name", "seed"), [("out-1.png", 7), ("out-2.png", 8)])
def test_every_image_says_how_it_was_made(
    batch: Outcome, folder: Path, name: str, seed: int
) -> None:
    with Image.open(folder / name) as image:
        assert json.loads(image.info["sdrt"]) == RECORDED | {"seed": seed}
        assert image.info["parameters"] == (
            f"{PROMPT}\n"
            "Negative prompt: a small blue star\n"
            f"Steps: 2, Sampler: DPM++ 2M Karras, CFG scale: 4.5, Seed: {seed}, Size: 64x96, "
            "Model: demo, Clip skip: 2, Prompt syntax: plain"
        )


def test_an_image_of_a_batch_can_be_made_alone(
    batch: Outcome, folder: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.png"
    assert main(["run", "--from-image", str(folder / "out-2.png"), "-o", str(alone)]) == 0
    # sums of a smaller batch may be taken in another order
    assert abs(pixels(alone) - pixels(folder / "out-2.png")).max() <= 1
    assert recorded(alone) == recorded(folder / "out-2.png")


@pytest.fixture(scope="module")
def single(folder: Path) -> Path:
    """One image with fresh noise in every step, at the default path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        size = ["-W", "64", "-H", "64", "--steps", "3", "-s", "4294967296"]
        assert main(["run", "demo", PROMPT, *size, "--scheduler", "ddim", "--eta", "0.5"]) == 0
    return folder / "sdrt-4294967296.png"


def test_an_image_is_reproduced_bit_for_bit(
    single: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again.png"
    assert main(["run", "--from-image", str(single), "-o", str(again), "--quiet"]) == 0
    assert again.read_bytes() == single.read_bytes()
    assert capfd.readouterr() == ("", "")


def test_one_option_overrides_what_the_image_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_toy_bundle(tmp_path / "toy")
    monkeypatch.chdir(tmp_path)
    assert main(["run", "toy", PROMPT, "--steps", "2", "-s", "0", "-o", "one.png"]) == 0
    assert main(["run", "--from-image", "one.png", "--seed", "1", "-o", "other.png"]) == 0
    one, other = (recorded(Path(name)) for name in ("one.png", "other.png"))
    assert one["bundle"] == "toy"
    assert (one["seed"], one["guidance_scale"]) == (0, 3.0)  # the bundle's own guidance
    assert other == one | {"seed": 1}
    assert (pixels(Path("one.png")) != pixels(Path("other.png"))).any()


def test_images_of_other_programs_lend_their_parameters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = PngInfo()
    texts.add_text("parameters", f"{PROMPT}\nSteps: 0, Sampler: Euler a, CFG scale: 3, Seed: 5")
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png", pnginfo=texts)
    assert main(["run", "demo", "--from-image", str(tmp_path / "other.png")]) == 1
    assert "num_inference_steps: got 0" in capsys.readouterr().err


def test_what_cannot_be_followed_is_reported(tmp_path: Path) -> None:
    texts = PngInfo()
    texts.add_text("sdrt", json.dumps({"prompt": PROMPT, "bundle": "gone", "tiling": True}))
    Image.new("RGB", (8, 8)).save(tmp_path / "later.png", pnginfo=texts)
    outcome = run_sdrt("run", "--from-image", "later.png", folder=tmp_path)
    warning, error = outcome.err
    assert warning == (
        "sdrt: note: later.png: the original was made with tiling, which this version does not "
        "know: the image will differ"
    )
    assert error.startswith(f"sdrt: no bundle at '{tmp_path / 'gone'}'")


def test_an_interrupt_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 1.5)
    try:
        assert main(["run", "demo", PROMPT, "--steps", "1000"]) == 130
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert capsys.readouterr().err == "sdrt: interrupted, no incomplete file was left\n"
    assert list(tmp_path.iterdir()) == []


def test_progress_is_shown_while_the_steps_are_taken() -> None:
    screen = StringIO()
    steps = [Step(i, 2, 0.0, np.zeros((1, 4, 1, 1), np.float32), tuple) for i in range(2)]
    console = Console(file=screen, force_terminal=True, width=80)
    assert list(shown(iter(steps), console)) == steps
    assert "denoising" in screen.getvalue()
    assert "2/2" in screen.getvalue()


# --- sdrt inspect


def test_inspect_shows_what_a_bundle_holds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["inspect", "demo"]) == 0
    text = capsys.readouterr().out
    manifest = sdrt.Bundle.open("demo").manifest
    assert manifest.source in text
    assert f"torch {manifest.tools['torch']}" in " ".join(text.split())
    rows = [line.split() for line in text.splitlines()]
    for component in manifest.components:
        parity = component.parity
        assert parity is not None
        size = f"{sum(file.size for file in component.files) / 1e6:.1f}"
        error = f"{parity.max_abs:.1e}"
        figures = [component.precision, size, "MB", error, f"{parity.psnr:.0f}", "dB"]
        assert [component.name, *figures] in rows
    for row in (
        "text_encoder in input_ids int64 (B, 32)",
        "text_encoder out hidden_states.0…3 float32 (B, 32, 96)",
        "unet in encoder_hidden_states float32 (B, L, 96)",
        "unet_controlled in down_block_residuals.0…5 float32 5 shapes",
        "vae_decoder out sample float32 (B, 3, 8*h, 8*w)",
        "controlnet_edges in controlnet_cond float32 (B, 3, 8*h, 8*w)",
    ):
        assert row.split() in rows


def test_inspect_prints_the_manifest_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "demo", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((DEMO_FOLDER / "sdrt.json").read_text(encoding="utf-8"))


def test_inspect_does_not_load_a_network(tmp_path: Path) -> None:
    loaded = run_sdrt("inspect", "demo", folder=tmp_path).loaded
    assert "sdrt" in loaded
    assert not loaded & {*NOT_FOR_RUNNING, "onnxruntime", "tokenizers", "PIL"}


# --- all commands


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"sdrt {sdrt.__version__}\n"


@pytest.mark.parametrize("command", [[], ["run"], ["export"], ["inspect"], ["verify"], ["doctor"]])
def test_help_reads_on_every_terminal(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {' '.join(['sdrt', *command])} ")
    assert text.isascii()


def test_debug_shows_where_an_error_comes_from(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle at"):
        main(["inspect", str(tmp_path / "gone"), "--debug"])
    outcome = run_sdrt("inspect", "gone", "--debug", folder=tmp_path)
    assert outcome.code == 1
    assert outcome.err[0] == "Traceback (most recent call last):"
    assert outcome.err[-1].startswith("sdrt.errors.BundleError: no bundle at 'gone'")


def test_export_without_its_libraries_reports_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as where it is not installed
    assert main(["export", "owner/name", "-o", "bundle"]) == 1
    assert capsys.readouterr().err == (
        "sdrt: 'sdrt export' needs huggingface_hub, which is not installed: "
        "pip install 'sdrt[export]'\n"
    )
