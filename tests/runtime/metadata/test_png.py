"""Images that carry their parameters: written whole, read back exactly, also from others."""

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdrt.errors import RequestError, SdrtError
from sdrt.metadata.a1111 import record_from_text, text_from_parameters
from sdrt.metadata.png import png_bytes, read_record, save_png
from sdrt.scheduler_names import SHORT_NAMES, SUFFIXES

IMAGE = Image.fromarray(np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3))
PARAMETERS = {
    "prompt": "a large red circle, on a white background",
    "negative_prompt": "blurry",
    "num_inference_steps": 20,
    "guidance_scale": 7.5,
    "seed": 7,
    "width": 512,
    "height": 768,
    "scheduler": "dpmpp_2m_karras",
    "model": "demo",
    "prompt_syntax": "a1111",  # which goes without saying in that text
}
TEXT = """a large red circle, on a white background
Negative prompt: blurry
Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 7, Size: 512x768, Model: demo"""


def read_parameters(path: Path) -> dict[str, Any]:
    return read_record(path).parameters


def parameters_from_text(text: str) -> dict[str, Any]:
    return record_from_text(text).parameters


def image_with(path: Path, **texts: str) -> Path:
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key, value)
    IMAGE.save(path, pnginfo=info)
    return path


def test_a_saved_image_has_both_texts_and_the_pixels(tmp_path: Path) -> None:
    save_png(IMAGE, tmp_path / "a.png", PARAMETERS)
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["parameters"] == TEXT
        assert json.loads(image.info["sdrt"]) == PARAMETERS
        np.testing.assert_array_equal(np.asarray(image), np.asarray(IMAGE))


def test_the_same_image_is_the_same_file() -> None:
    assert png_bytes(IMAGE, PARAMETERS) == png_bytes(IMAGE, PARAMETERS)


def test_saving_replaces_a_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("before")
    save_png(IMAGE, str(tmp_path / "a.png"), PARAMETERS)
    assert read_parameters(tmp_path / "a.png") == PARAMETERS
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    save_png(IMAGE, tmp_path / "new" / "folder" / "a.png", PARAMETERS)
    assert read_parameters(tmp_path / "new" / "folder" / "a.png") == PARAMETERS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    prompt=st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    negative=st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    more=st.dictionaries(st.text().map("x_{}".format), json_values, max_size=3),
)
def test_whatever_was_saved_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, prompt: str, negative: str, more: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.png"
    parameters = PARAMETERS | {"prompt": prompt, "negative_prompt": negative} | more
    save_png(IMAGE, path, parameters)
    assert read_parameters(path) == parameters


lines = st.lists(st.text(alphabet=st.characters(exclude_categories=["C", "Z"])), max_size=4)
WRITTEN = [stem for stem, name in SHORT_NAMES.items() if name.a1111]
prompts = lines.map("\n".join).filter(lambda text: text == text.strip())
names = st.text(alphabet=st.characters(exclude_categories=["Cs"])).filter(
    lambda text: bool(text) and text == text.strip()
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    prompt=prompts.filter(lambda text: "Negative prompt:" not in text),
    negative=prompts,
    steps=st.integers(1, 1000),
    guidance=st.floats(0, 100),
    seed=st.integers(0, 2**64 - 1),
    scheduler=st.tuples(st.sampled_from(WRITTEN), st.sampled_from(["", *SUFFIXES])),
    model=names,
    clip_skip=st.none() | st.integers(1, 12),
    syntax=st.sampled_from(["plain", "a1111"]),
)
def test_a1111s_text_is_read_back(
    prompt: str,
    negative: str,
    steps: int,
    guidance: float,
    seed: int,
    scheduler: tuple[str, str],
    model: str,
    clip_skip: int | None,
    syntax: str,
) -> None:
    parameters: dict[str, Any] = {
        "prompt": prompt,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "seed": seed,
        "width": 512,
        "height": 768,
        "scheduler": "".join(scheduler),
        "model": model,
        "prompt_syntax": syntax,
    }
    if negative:
        parameters["negative_prompt"] = negative
    if clip_skip:
        parameters["clip_skip"] = clip_skip
    assert parameters_from_text(text_from_parameters(parameters)) == parameters


OF_SDXL: dict[str, Any] = {
    "prompt_2": 'a "small", blue\nstar: 3',
    "negative_prompt_2": "ugly",
    "original_size": (768, 1024),
    "crops_coords_top_left": (0, 128),
    "target_size": (512, 640),
    "negative_original_size": (8, 9),
    "negative_crops_coords_top_left": (10, 11),
    "negative_target_size": (12, 13),
    "aesthetic_score": 6.5,
    "negative_aesthetic_score": 2.0,
}


def test_what_sdxl_takes_is_read_back(tmp_path: Path) -> None:
    text = text_from_parameters(PARAMETERS | OF_SDXL)
    assert 'SDXL original size: 1024x768, SDXL crop: "0,128", SDXL target size: 640x512' in text
    record = record_from_text(text)
    assert record.parameters == PARAMETERS | OF_SDXL
    assert record.notes == ()
    save_png(IMAGE, tmp_path / "a.png", PARAMETERS | OF_SDXL)
    plain = json.loads(json.dumps(PARAMETERS | OF_SDXL))
    assert read_parameters(tmp_path / "a.png") == plain


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("SDXL original size: 1024", "'SDXL original size: 1024', expected one like 768x512"),
        ("SDXL crop: 5x6", "'SDXL crop: 5x6', expected one like 0,128"),
        ("SDXL aesthetic score: high", "'SDXL aesthetic score: high', expected a number"),
    ],
)
def test_what_sdxl_takes_may_be_damaged(field: str, message: str) -> None:
    with pytest.raises(RequestError, match=f"the image's text says {message}"):
        record_from_text(f"{TEXT}, {field}")


def test_a_text_of_a1111_itself(tmp_path: Path) -> None:
    text = (
        "(masterpiece:1.2), a cat\n  second line, \n"
        "Negative prompt: bad hands,\nblurry\n"
        "Steps: 25, Sampler: Euler a, Schedule type: Automatic, CFG scale: 6, Seed: 3891, "
        "Size: 512x640, Model hash: 6ce0161689, Model: v1-5-pruned, Denoising strength: 0.75, "
        'Clip skip: 2, Lora hashes: "detail: 7c6bad, other: 91ad", Version: v1.10.1'
    )
    assert read_parameters(image_with(tmp_path / "a.png", parameters=text)) == {
        "prompt": "(masterpiece:1.2), a cat\nsecond line,",
        "negative_prompt": "bad hands,\nblurry",
        "num_inference_steps": 25,
        "guidance_scale": 6.0,
        "seed": 3891,
        "width": 512,
        "height": 640,
        "scheduler": "euler_a",
        "model": "v1-5-pruned",
        "strength": 0.75,
        "clip_skip": 1,
        "prompt_syntax": "a1111",
        "merged": [
            {"kind": "lora", "name": "detail", "short_hash": "7c6bad"},
            {"kind": "lora", "name": "other", "short_hash": "91ad"},
        ],
    }


@pytest.mark.parametrize(
    ("written", "scheduler"),
    [
        ("Sampler: DPM++ 2M Karras", "dpmpp_2m_karras"),
        ("Sampler: DPM++ 2M, Schedule type: Karras", "dpmpp_2m_karras"),
        ("Sampler: DPM++ 2M", "dpmpp_2m"),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "dpmpp_2m_karras"),
        ("Sampler: DPM++ 2M SDE, Schedule type: Automatic", "dpmpp_2m_sde_exponential"),
        ("Sampler: Euler, Schedule type: Beta", "euler_beta"),
        ("Sampler: Euler, Schedule type: Automatic", "euler"),
        ("Sampler: Euler, Schedule type: Uniform", "euler"),
        ("Sampler: DPM++ SDE, Schedule type: Automatic", "DPM++ SDE Karras"),
        ("Sampler: PLMS", "pndm"),
        ("Sampler: DPM2 a", "kdpm2_a"),
        ("Sampler: dpm++ 3m sde karras", "dpmpp_3m_sde_karras"),
        ("Sampler: DPM adaptive", "DPM adaptive"),
        ("Sampler: Euler, Schedule type: SGM Uniform", "euler_trailing"),
        ("Sampler: Euler, Schedule type: KL Optimal", "Euler KL Optimal"),
        ("Sampler: DDIMScheduler", "DDIMScheduler"),
    ],
)
def test_samplers_get_their_short_names(written: str, scheduler: str) -> None:
    text = f"a cat\nSteps: 20, {written}, CFG scale: 7, Seed: 1"
    assert parameters_from_text(text)["scheduler"] == scheduler


@pytest.mark.parametrize(
    ("scheduler", "sampler"),
    [
        ("euler_a", "Euler a"),
        ("euler_ancestral", "Euler a"),
        ("dpm2_a_karras", "DPM2 a Karras"),
        ("dpmpp_2m_sde_karras", "DPM++ 2M SDE Karras"),
        ("dpmpp_3m", "dpmpp_3m"),
        ("DDIMScheduler", "DDIM"),
        ("DPMSolverMultistepScheduler", "DPMSolverMultistepScheduler"),  # not only "DPM++ 2M"
    ],
)
def test_schedulers_are_written_as_a1111_knows_them(scheduler: str, sampler: str) -> None:
    assert text_from_parameters({"scheduler": scheduler}) == f"\nSampler: {sampler}"


@pytest.mark.parametrize("text", ["a cat", "a cat\nin: a, hat", "", "Steps: 3"])
def test_a_text_without_fields_is_a_prompt(text: str) -> None:
    assert parameters_from_text(text) == {"prompt": text, "prompt_syntax": "a1111"}


def test_json_counts_more_than_the_text(tmp_path: Path) -> None:
    path = image_with(tmp_path / "a.png", parameters=TEXT, sdrt='{"prompt": "exact"}')
    assert read_parameters(path) == {"prompt": "exact"}


def test_the_bundle_s_name_is_the_model() -> None:
    text = text_from_parameters({"prompt": "a cat", "seed": 1, "bundle": "/photos/bundles/sd15"})
    assert text == "a cat\nSeed: 1, Model: sd15"


def test_what_was_merged_is_written_as_a1111_writes_it_and_read_again() -> None:
    merged = [
        {"kind": "lora", "name": "my style, v1.1: best", "short_hash": "0123456789ab"},
        {"kind": "lora", "name": "lcm", "short_hash": "a" * 12},
        {"kind": "embedding", "name": "bad", "short_hash": "456789abcdef"},
    ]
    text = text_from_parameters(PARAMETERS | {"merged": merged})
    assert text.endswith(
        'Model: demo, Lora hashes: "my style v1.1 best: 0123456789ab, lcm: aaaaaaaaaaaa", '
        'TI hashes: "bad: 456789abcdef"'
    )
    record = record_from_text(text)
    assert (
        record.parameters["merged"]
        == [
            {**merged[0], "name": "my style v1.1 best"},  # without the signs that separate names
            *merged[1:],
        ]
    )
    assert record.notes == ()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({}, "does not say how it was made: it has no 'sdrt' and no 'parameters' text"),
        ({"sdrt": "{"}, "its 'sdrt' text is '{', expected a JSON object"),
        ({"sdrt": "[]"}, "its 'sdrt' text is '\\[\\]', expected a JSON object"),
        ({"parameters": "a\nSteps: x, Seed: 1, Size: 8x8"}, "'Steps: x', expected a number"),
        ({"parameters": "a\nSteps: 1, Seed: 1, Size: big"}, "'Size: big', expected one like"),
    ],
)
def test_images_without_parameters(tmp_path: Path, texts: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_parameters(image_with(tmp_path / "a.png", **texts))


def test_files_that_are_no_png(tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "a.jpg")
    (tmp_path / "b.png").write_text("not an image")
    for name in ("a.jpg", "b.png"):
        with pytest.raises(RequestError, match=f"{name} is not a PNG"):
            read_parameters(tmp_path / name)
    with pytest.raises(RequestError, match="No such file"):
        read_parameters(tmp_path / "c.png")
    with pytest.raises(RequestError, match="Is a directory"):
        read_parameters(tmp_path)


def test_a_cut_file_is_an_error_wherever_it_is_cut(tmp_path: Path) -> None:
    content = png_bytes(IMAGE, PARAMETERS)
    path = tmp_path / "cut.png"
    last_pixels = content.index(b"IEND") - 16  # before two checksums and a length
    for length in [*range(0, last_pixels, 7), last_pixels]:
        path.write_bytes(content[:length])
        with pytest.raises(RequestError, match=r"cut\.png (is not a PNG|cannot be read)"):
            read_parameters(path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file/a.png", "cannot write .*: choose another path"),
        ("folder", "is not a file"),
        ("x" * 300 + ".png", "File name too long"),
        ("null\0.png", "null (byte|character)"),  # Python 3.11, 3.13
    ],
)
def test_places_that_cannot_be_written(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SdrtError, match=reason):
        save_png(IMAGE, tmp_path / name, PARAMETERS)
    assert sorted(tmp_path.rglob("*")) == before


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    """As on a full disk, writing fails after that many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # it would be cut short, too
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = bytecode


def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path) -> None:
    save_png(IMAGE, tmp_path / "a.png", PARAMETERS)
    before = (tmp_path / "a.png").read_bytes()
    with (
        file_size_limit(100),
        pytest.raises(
            SdrtError, match=r"cannot write .*a\.png': File too large: choose another path"
        ),
    ):
        save_png(IMAGE, tmp_path / "a.png", PARAMETERS | {"seed": 8})
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
