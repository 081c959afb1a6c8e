"""Notes on settings of a request that have no effect or may surprise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdrt
from sdrt.notes import Note
from support.images import mask, sample_image
from support.toy_bundle import write_toy_bundle

PROMPT = "a red circle"
LONG = "red " * 75 + "on a blue ground"
STEPS: dict[str, Any] = {"num_inference_steps": 2, "seed": 1}


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> sdrt.Pipeline:
    return sdrt.Pipeline.open(write_toy_bundle(tmp_path_factory.mktemp("bundle") / "bundle"), "cpu")


def notes(pipe: sdrt.Pipeline, prompt: str = PROMPT, **options: Any) -> list[Note]:
    stream = pipe.stream(prompt, **{**STEPS, **options})
    list(stream)
    return list(stream.result.notes)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"negative_prompt": "blurry"},
        {"width": 192, "height": 192},
        {"image": sample_image(128, 64)},
        {"image": sample_image(512, 512), "strength": 0.5},  # a large image has its own content
        {"image": sample_image(100, 100), "width": 128, "height": 128, "resize": "pad"},
        {"num_inference_steps": 3, "scheduler": "euler", "timesteps": [900, 500, 100]},
        {"scheduler": "dpmpp_2m_karras"},
    ],
)
def test_a_request_that_is_honoured_has_no_notes(
    pipe: sdrt.Pipeline, options: dict[str, Any]
) -> None:
    assert notes(pipe, **options) == []


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (
            {"negative_prompt": "blurry", "guidance_scale": 1},
            "no_guidance",
            "negative_prompt: has no effect without guidance (guidance_scale is 1)",
        ),
        (
            {"guidance_rescale": 0.5, "guidance_scale": 0.5},
            "no_guidance",
            "guidance_rescale: has no effect without guidance (guidance_scale is 0.5)",
        ),
        (
            {"scheduler": "euler", "timesteps": [900, 500], "num_inference_steps": 30},
            "steps_replaced",
            "num_inference_steps: 30 has no effect together with timesteps, which give 2 steps",
        ),
        (
            {"image": sample_image(200, 100)},
            "size_cut",
            "the input image has 200×100 pixels, the result 200×96, the nearest smaller size that "
            "the model can generate",
        ),
        (
            {"control": {"edges": sample_image(129, 128)}},
            "size_cut",
            "the input image has 129×128 pixels, the result 128×128, the nearest smaller size that "
            "the model can generate",
        ),
        (
            {"width": 512, "height": 512},
            "size_untrained",
            "width and height: 512×512 pixels are far from the 128×128 that the model was trained "
            "for: the image may look worse",
        ),
        (
            {"width": 64, "height": 64},
            "size_untrained",
            "width and height: 64×64 pixels are far from the 128×128 that the model was trained "
            "for: the image may look worse",
        ),
    ],
)
def test_what_is_not_honoured_is_noted(
    pipe: sdrt.Pipeline, options: dict[str, Any], code: str, message: str
) -> None:
    (note,) = notes(pipe, **options)
    assert (note.code, note.message) == (code, message)


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_truncated_prompt_is_noted_with_what_was_cut_off(pipe: sdrt.Pipeline, field: str) -> None:
    (note,) = notes(pipe, **{"prompt": PROMPT, field: LONG})
    assert note == Note(
        "prompt_truncated",
        field,
        f"{field}: longer than the 77 tokens that the text encoder reads: this part has no "
        "influence on the image: 'on a blue ground' (prompt_syntax 'a1111' reads all of it)",
    )


def test_a_note_quotes_little_of_a_long_prompt(pipe: sdrt.Pipeline) -> None:
    (note,) = notes(pipe, prompt="blue " * 2000)
    assert note.code == "prompt_truncated"
    assert len(note.message) < 250


def test_each_truncated_prompt_of_a_batch_is_noted_once(pipe: sdrt.Pipeline) -> None:
    stream = pipe.stream([LONG, LONG, "blue " * 80], num_images_per_prompt=2, **STEPS)
    list(stream)
    assert [note.code for note in stream.result.notes] == ["prompt_truncated"] * 2


def test_a_mask_may_be_cut_with_its_image(pipe: sdrt.Pipeline) -> None:
    (note,) = notes(pipe, image=sample_image(130, 128), mask_image=mask(130, 128, (0, 0, 64, 64)))
    assert (note.code, note.field) == ("size_cut", "image")


def test_a_call_issues_one_warning_after_the_result(pipe: sdrt.Pipeline) -> None:
    with pytest.warns(sdrt.NoteWarning) as caught:
        result = pipe(PROMPT, negative_prompt="blurry", guidance_scale=1, width=512, **STEPS)
    assert len(result.notes) == 2
    (warning,) = caught
    assert str(warning.message) == "; ".join(note.message for note in result.notes)
    assert Path(warning.filename) == Path(__file__)


@pytest.mark.filterwarnings("error")
def test_a_stream_issues_no_warning(pipe: sdrt.Pipeline) -> None:
    assert len(notes(pipe, width=512, height=512)) == 1


@pytest.mark.parametrize(
    ("prompt", "negative", "field", "quoted"),
    [
        ("a (red:1.5) circle", "", "prompt", "'(red:1.5)'"),
        ("a circle <lora:foo:0.8>", "", "prompt", "'<lora:foo:0.8>'"),
        ("a circle", "(blurry: 2)", "negative_prompt", "'(blurry: 2)'"),
    ],
)
def test_weights_and_tags_are_read_as_words(
    pipe: sdrt.Pipeline, prompt: str, negative: str, field: str, quoted: str
) -> None:
    (note,) = notes(pipe, prompt, negative_prompt=negative)
    assert (note.code, note.field) == ("prompt_syntax", field)
    assert note.message == (
        f"{field}: {quoted} is read as words: weights and tags have no meaning "
        "(prompt_syntax 'a1111' reads weights)"
    )


def test_brackets_alone_are_words(pipe: sdrt.Pipeline) -> None:
    assert notes(pipe, "a circle (red, round), ratio 1:2, a <b> c") == []


# --- masks that do less than it seems


def painted(box: tuple[int, int, int, int], grey: int = 255) -> Image.Image:
    drawn = Image.new("L", (64, 64))
    drawn.paste(grey, box)
    return drawn


@pytest.mark.parametrize(
    ("drawn", "code", "message"),
    [
        (painted((0, 0, 0, 0)), "mask_empty", "it is black everywhere, expected white (from 128"),
        (painted((16, 16, 32, 32), 1), "mask_empty", "its greatest value is 1 of 255: save a mask"),
        (
            Image.fromarray(np.asarray(painted((16, 16, 32, 32), 1)).astype(np.int32)),
            "mask_empty",
            "its greatest value is 1 of 255",
        ),
        (painted((17, 17, 23, 23)), "mask_too_thin", "contains no corner of a latent cell of 8×8"),
        (painted((18, 0, 20, 64)), "mask_too_thin", "so nothing is generated: make it larger, or"),
    ],
)
def test_a_mask_that_generates_nothing(
    pipe: sdrt.Pipeline, drawn: Image.Image, code: str, message: str
) -> None:
    (note,) = notes(pipe, image=sample_image(64, 64), mask_image=drawn)
    assert (note.code, note.field) == (code, "mask_image")
    assert message in note.message


def test_a_mask_of_fractions_is_a_plain_mask(pipe: sdrt.Pipeline) -> None:
    drawn = Image.fromarray(np.asarray(mask(64, 64, (16, 16, 32, 32))).astype(np.float32) / 255)
    assert notes(pipe, image=sample_image(64, 64), mask_image=drawn) == []


def test_a_box_that_differs_from_that_of_diffusers(pipe: sdrt.Pipeline) -> None:
    drawn = mask(64, 64, (16, 16, 32, 32))
    options: dict[str, Any] = {"image": sample_image(64, 64), "padding_mask_crop": 4}
    assert notes(pipe, mask_image=drawn, width=64, height=64, **options) == []
    drawn.putpixel((63, 63), 2)
    (note,) = notes(pipe, mask_image=drawn, width=64, height=64, **options)
    assert note.code == "crop_box_differs"
    assert "takes the box (12, 12, 36, 36) around its white" in note.message
    assert "takes (12, 12, 64, 64)" in note.message


def test_an_empty_mask_is_refused_with_a_crop(pipe: sdrt.Pipeline) -> None:
    with pytest.raises(sdrt.RequestError, match=r"black everywhere.*has nothing to cut out"):
        notes(
            pipe,
            image=sample_image(64, 64),
            mask_image=painted((0, 0, 0, 0)),
            padding_mask_crop=8,
        )
