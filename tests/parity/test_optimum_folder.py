"""Folders exported by optimum-onnx 0.1.0 run here, and ours run there.

Optimum's UNet takes one timestep, a float32 scalar; ours takes one per row. There, a pipeline feeds
ours a vector of one ("might be inefficient", it warns), which the graph broadcasts over the rows,
so the image is the same.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from sdrt import Pipeline
from sdrt.bundle.folder import Bundle
from sdrt.command_line.main import main
from sdrt.errors import RequestError
from sdrt_engines import engine_from_onnx

pytestmark = [
    pytest.mark.parity,
    pytest.mark.needs("optimum"),
    # diffusers' own: it asks optimum's text encoder for its number of layers
    pytest.mark.filterwarnings("ignore:Accessing config attribute `num_hidden_layers`"),
]

RECIPE = "classic"
PROMPTS = ["a red circle on a white background", "three cats"]
Draw: TypeAlias = Callable[..., np.ndarray]  # keywords of a pipeline -> (B, H, W, 3)
REQUESTS: list[dict[str, Any]] = [
    {"prompt": PROMPTS, "guidance_scale": 1.0},
    {"prompt": PROMPTS[0], "negative_prompt": "blurry"},
    {"prompt": PROMPTS, "negative_prompt": ["blurry", ""], "width": 64, "height": 24},
]


@pytest.fixture(scope="module")
def optimum_folder(
    tiny_checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return exported_by_optimum(tiny_checkpoint(RECIPE), tmp_path_factory.mktemp("optimum"))


@pytest.fixture(scope="module")
def optimum_xl_folder(
    tiny_checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return exported_by_optimum(tiny_checkpoint("xl"), tmp_path_factory.mktemp("optimum_xl"))


def exported_by_optimum(checkpoint: Path, root: Path) -> Path:
    """The output of `optimum-cli export onnx --model CHECKPOINT --task text-to-image FOLDER`."""
    folder = root / "folder"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses torch's older exporter
        from optimum.exporters.onnx import main_export

        main_export(str(checkpoint), output=folder, task="text-to-image", do_validation=False)
    return folder


@pytest.fixture(scope="module")
def draw_there(tiny_checkpoint: Callable[[str], Path]) -> Draw:
    return drawing(StableDiffusionPipeline.from_pretrained(tiny_checkpoint(RECIPE)))


def drawing(pipe: Any) -> Draw:
    pipe.set_progress_bar_config(disable=True)

    def draw(prompt: str | Sequence[str], **options: Any) -> np.ndarray:
        count = 1 if isinstance(prompt, str) else len(prompt)
        generator = [torch.Generator().manual_seed(seed) for seed in range(count)]
        return pixels(pipe(prompt, generator=generator, num_inference_steps=5, **options).images)

    return draw


def pixels(images: Sequence[Any]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images]).astype(int)


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_their_folder_gives_the_same_image_here(
    optimum_folder: Path, draw_there: Draw, request_: dict[str, Any]
) -> None:
    pipe = Pipeline.open(optimum_folder, target="cpu", num_threads=1)
    assert pipe.bundle.component("unet").signature.inputs[1].shape == ()  # the scalar timestep
    ours = pixels(pipe(**request_, seed=0, num_inference_steps=5).images)
    theirs = draw_there(**request_)
    assert theirs.std() > 5, "a flat image proves nothing"
    assert abs(ours - theirs).max() <= 2


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_our_folder_gives_the_same_image_there(
    tiny_bundle: Callable[[str], Path], draw_there: Draw, request_: dict[str, Any]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from optimum.onnxruntime import ORTStableDiffusionPipeline
    pipe = ORTStableDiffusionPipeline.from_pretrained(tiny_bundle(RECIPE))
    assert abs(drawing(pipe)(**request_) - draw_there(**request_)).max() <= 2


def test_clip_skip_is_refused(optimum_folder: Path) -> None:
    pipe = Pipeline.open(optimum_folder, target="cpu", num_threads=1)
    with pytest.raises(RequestError) as caught:
        pipe(PROMPTS[0], clip_skip=1)
    assert "no hidden states among its outputs (optimum does not export them)" in str(caught.value)
    assert "export with 'sdrt export'" in str(caught.value)


def test_it_can_be_inspected(optimum_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(optimum_folder)]) == 0
    table = capsys.readouterr().out
    for text in ("stable-diffusion-1", "text_encoder", "vae_encoder", "encoder_hidden_states"):
        assert text in table
    assert main(["inspect", str(optimum_folder), "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    names = [component["name"] for component in manifest["components"]]
    assert names == ["text_encoder", "unet", "vae_decoder", "vae_encoder"]


def test_our_networks_of_sdxl_have_the_same_inputs_and_outputs(
    optimum_xl_folder: Path, tiny_bundle: Callable[[str], Path]
) -> None:
    """By names and order: optimum's pipelines read some outputs by position."""
    theirs, ours = Bundle.open(optimum_xl_folder), Bundle.open(tiny_bundle("xl"))
    assert theirs.family == ours.family
    for component in theirs.manifest.components:
        signature, other = component.signature, ours.component(component.name).signature
        assert [spec.name for spec in other.inputs] == [spec.name for spec in signature.inputs]
        outputs = [spec.name for spec in signature.outputs]
        assert [spec.name for spec in other.outputs][: len(outputs)] == outputs


def test_their_denoiser_of_sdxl_runs_here(
    optimum_xl_folder: Path, tiny_checkpoint: Callable[[str], Path]
) -> None:
    component = Bundle.open(optimum_xl_folder).component("unet")
    pipe = StableDiffusionXLPipeline.from_pretrained(tiny_checkpoint("xl"))
    random = np.random.default_rng(0)
    feeds = {
        "sample": random.standard_normal((2, 4, 12, 16), np.float32),
        "timestep": np.array(481.0, component.signature.input("timestep").dtype),
        "encoder_hidden_states": random.standard_normal((2, 77, 20), np.float32),
        "text_embeds": random.standard_normal((2, 10), np.float32),
        "time_ids": random.uniform(0, 64, (2, 6)).astype(np.float32),
    }
    with engine_from_onnx(optimum_xl_folder / component.model, num_threads=1) as engine:
        got = engine.run(feeds)["out_sample"]
    sample, timestep, context, *added = map(torch.from_numpy, feeds.values())
    with torch.no_grad():
        conditions = dict(zip(("text_embeds", "time_ids"), added, strict=True))
        expected = pipe.unet(sample, timestep, context, added_cond_kwargs=conditions).sample
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_their_folder_of_sdxl_gives_the_same_image_here(
    optimum_xl_folder: Path, tiny_checkpoint: Callable[[str], Path]
) -> None:
    pipe = Pipeline.open(optimum_xl_folder, target="cpu", num_threads=1)
    draw = drawing(StableDiffusionXLPipeline.from_pretrained(tiny_checkpoint("xl")))
    further: dict[str, Any] = {"prompt_2": PROMPTS[::-1], "original_size": (900, 30)}
    for request in (*REQUESTS, {"prompt": PROMPTS} | further, {"prompt": PROMPTS, "clip_skip": 1}):
        ours = pixels(pipe(**request, seed=0, num_inference_steps=5).images)
        assert abs(ours - draw(**request)).max() <= 2, request


def test_sdxl_can_be_inspected(
    optimum_xl_folder: Path,
    tiny_bundle: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for folder in (optimum_xl_folder, tiny_bundle("xl")):
        assert main(["inspect", str(folder)]) == 0
        table = capsys.readouterr().out
        for text in ("stable-diffusion-xl", "text_encoder_2", "text_embeds", "time_ids"):
            assert text in table
