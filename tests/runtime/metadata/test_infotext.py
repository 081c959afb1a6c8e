"""A1111's text in the dialects of other programs, and notes on what is not honoured."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdrt.errors import RequestError
from sdrt.metadata.a1111 import record_from_text, text_from_parameters

FIELDS = "Steps: 3, Sampler: Euler a, CFG scale: 5, Seed: 7, Size: 64x64"
PARAMETERS = {
    "prompt_syntax": "a1111",
    "num_inference_steps": 3,
    "scheduler": "euler_a",
    "guidance_scale": 5.0,
    "seed": 7,
    "width": 64,
    "height": 64,
}
STEPS = {"num_inference_steps": 3}


def parameters_of(text: str) -> dict[str, Any]:
    return record_from_text(text).parameters


def notes_of(text: str) -> list[str]:
    return [note.message for note in record_from_text(text).notes]


@pytest.mark.parametrize(
    "prompt",
    [
        "style: noir, subject: cat, mood: calm, light: low",
        "first,\nlora a v1:1>, <b v1:1>, rest",
        "the steps: of a house, seed: of an apple, size: huge, model: a ship",
        "Steps: of stone, Seed: of life",
        "a cat\nNegative: dog, Size: large, Steps: wet",
    ],
)
def test_colons_alone_make_no_fields(prompt: str) -> None:
    assert parameters_of(prompt) == {"prompt": prompt, "prompt_syntax": "a1111"}


@pytest.mark.parametrize(
    "after",
    [
        "",
        "\nTemplate: a {red|blue} circle\nNegative Template: blurry, dark",
        "\nTemplate: a {red|blue} circle, Steps: 50, Seed: 1",
        ', Wildcard prompt: "a\nb", Version: v1.6',
        ', Wildcard prompt: "a\\nb", Version: v1.6',
        ", Version: v1.6\n",
        ', Hashes: {"model": "Seed: 9, Steps: 50"}, Version: v1.6',
        ", Civitai metadata: {}, Created Date: 2024-05-01T11:22:33.1234567Z",
    ],
)
def test_fields_may_have_several_lines(after: str) -> None:
    text = f"a red circle\nNegative prompt: blurry,\nugly\n{FIELDS}{after}"
    expected = {"prompt": "a red circle", "negative_prompt": "blurry,\nugly", **PARAMETERS}
    assert parameters_of(text) == expected
    assert notes_of(text) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("Steps: 20.0, Seed: 1, Size: 8x8", {"num_inference_steps": 20}),
        ("Steps: 20, Seed: 1", {"num_inference_steps": 20, "seed": 1}),
        ("Seed: 1, Steps: 20, Model: x", {"num_inference_steps": 20, "seed": 1}),
        ("Steps: 20, Guidance Scale: 6, Seed: 1", {"guidance_scale": 6.0}),
        ("Steps: 20, cfg scale: 6, seed: 1", {"guidance_scale": 6.0, "seed": 1}),
        ("Steps: 2, Sampler: euler, Scheduler: karras, Seed: 1", {"scheduler": "euler_karras"}),
        ("Steps: 2, Seed: 1, Size: 512 × 768", {"width": 512, "height": 768}),
        ("Steps: 2, Seed: 1, Clip skip: 0", {"clip_skip": 0}),
        ("Steps: 2, Seed: 1, Clip skip: 1", {"clip_skip": 0}),
        ("Steps: 2, Seed: 1, Clip skip: -2", {"clip_skip": 1}),
        ("Steps: 2, Seed: 1, Seed: 9, Size: 8x8", {"seed": 1}),
        ('Steps: 2, Seed: 1, Model: "a, b: c"', {"model": "a, b: c"}),
        ("Steps: 2, Seed: 1, Model: [1] and more", {"model": "[1] and more"}),
    ],
)
def test_other_programs_write_other_forms(fields: str, expected: dict[str, object]) -> None:
    parameters = parameters_of(f"a\n{fields}")
    assert parameters["prompt"] == "a"
    assert {name: parameters[name] for name in expected} == expected


def test_what_makes_an_image_faster_is_written_and_read() -> None:
    parameters = {**PARAMETERS, "guidance_interval": (0.2, 0.8), "forecast": 10}
    text = text_from_parameters({"prompt": "a", **parameters})
    assert text.endswith('Size: 64x64, Guidance interval: "0.2:0.8", Forecast: 10')
    assert parameters_of(text) == {"prompt": "a", **parameters}


@pytest.mark.parametrize("value", ["0.2", '"0.2:"', '"a:b"'])
def test_a_wrong_interval_is_refused(value: str) -> None:
    with pytest.raises(RequestError, match=r", expected one like 0\.2:0\.8"):
        parameters_of(f"a\n{FIELDS}, Guidance interval: {value}")


SECOND_PASS = (
    "the original had a second pass at 128×128, which sdrt does not do: the image will be that of "
    "the first pass"
)


@pytest.mark.parametrize(
    ("more", "strength", "notes"),
    [
        ("Denoising strength: 0.5", 0.5, []),
        ("Denoising strength: 0", None, []),
        (
            "Denoising strength: 0.5, Hires upscale: 2, Hires steps: 2, Hires upscaler: Latent",
            None,
            [SECOND_PASS],
        ),
        ("Hires upscaler: Latent", None, [SECOND_PASS.replace(" at 128×128", "")]),
    ],
)
def test_a_strength_may_belong_to_a_second_pass(
    more: str, strength: float | None, notes: list[str]
) -> None:
    text = f"a\n{FIELDS}, {more}"
    assert parameters_of(text).get("strength") == strength
    assert notes_of(text) == notes


def test_what_is_not_honoured_is_named_once() -> None:
    (note,) = record_from_text(
        "a red circle <lora:foo:0.8>, (white:1.3) background\n"
        f"{FIELDS}, Variation seed: 5, Variation seed strength: 0.4, ENSD: 31337, RNG: NV"
    ).notes
    assert note.code == "not_honoured"
    assert note.message == (
        "the original was made with Variation seed, Variation seed strength, ENSD and RNG, which "
        "sdrt does not honour: the image will differ"
    )


@pytest.mark.parametrize(
    "prompt",
    [
        "<lora:my lora v1.1:0.8>a cat <hypernet:x:1>",
        "a ((cat)) and a [cat:dog:0.5] BREAK (white:1.3) [red|blue]",
    ],
)
def test_prompts_are_read_as_a1111_wrote_them(prompt: str) -> None:
    text = f"{prompt}\nNegative prompt: {prompt}\n{FIELDS}"
    read = parameters_of(text)
    assert (read["prompt"], read["negative_prompt"]) == (prompt, prompt)
    assert read["prompt_syntax"] == "a1111"
    assert notes_of(text) == []  # the request has notes on what of it has no effect
    assert text_from_parameters(read) == text.replace("CFG scale: 5,", "CFG scale: 5.0,")


def test_a_plain_prompt_stays_one() -> None:
    plain = {"prompt": "a (red) cat", "prompt_syntax": "plain", "seed": 7, **STEPS}
    text = text_from_parameters(plain)
    assert text == "a (red) cat\nSteps: 3, Seed: 7, Prompt syntax: plain"
    assert parameters_of(text) == plain


@pytest.mark.parametrize(
    ("prompt", "more", "named"),
    [
        ("a (cat:1.2)", ", Emphasis: No norm", "Emphasis,"),
        ("a cat", ", Pad conds: True", "Pad conds,"),
        ("a cat", ", Face restoration: CodeFormer", "Face restoration,"),
        ("a cat", ", ADetailer model: face, ADetailer confidence: 0.3", "ADetailer,"),
        ("a cat", "\nmore words, and more", "'more words' and 'and more',"),
        ("a cat", "".join(f", Field {letter}: 1" for letter in "abcdefghijklm"), "and 3 more,"),
    ],
)
def test_fields_that_change_the_image_are_named(prompt: str, more: str, named: str) -> None:
    (message,) = notes_of(f"{prompt}\n{FIELDS}{more}")
    assert f"{named} which sdrt does not honour" in message


@pytest.mark.parametrize(
    ("prompt", "more"),
    [
        (r"a name \(title\)", ""),
        ("a cat, <3", ""),
        ("a cat", ", RNG: CPU, Tiling: False, VAE: x.safetensors, Batch size: 4, Batch pos: 0"),
    ],
)
def test_what_changes_nothing_is_not_named(prompt: str, more: str) -> None:
    assert notes_of(f"{prompt}\n{FIELDS}{more}") == []


def test_control_characters_of_strangers_are_not_printed() -> None:
    (message,) = notes_of(f"a\n{FIELDS}, Ward \x1b: 1, \x1b]0;x\x07")
    assert "'?]0;x?'" in message


@pytest.mark.parametrize(
    "hostile", ['aa: "', "aa: {", "aa: [1,", "<lora:", "(", "aa: ,", "\nSteps: 1, Seed: 1, "]
)
def test_much_of_anything_is_read_in_time(hostile: str) -> None:
    """A search for the end of each quotation would take hours."""
    text = f"a\n{FIELDS}, " + hostile * (100_000 // len(hostile))
    assert record_from_text(text).parameters["seed"] in (7, 1)


fragments = st.sampled_from(
    [
        *("Steps: 3", "Seed: 7", "Size: 8x8", "Size: x", "Clip skip: -", "CFG scale: nan"),
        *("Negative prompt: a", "Template: b, c", '"', "{", "[", "}", "]", ":", ",", "\n", " "),
        *("<lora:a:1>", "(a:1.2)", "\\", "Hires upscale: 1e999", "Denoising strength: -1", "\0"),
    ]
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(fragments | st.text(max_size=5), max_size=12))
def test_any_text_is_read_or_refused(parts: list[str]) -> None:
    for joint in ("", ", ", "\n"):
        try:
            record = record_from_text(joint.join(parts))
        except RequestError:
            continue
        assert "prompt" in record.parameters
