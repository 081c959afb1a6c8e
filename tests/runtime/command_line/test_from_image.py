"""`sdrt run --from-image` on a bundle whose LoRAs and embeddings are not the original's."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from sdrt import Request, RequestError
from sdrt.bundle.manifest import Merged
from sdrt.command_line.from_image import notes_on_merged
from sdrt.metadata.record import Record

STYLE = Merged("lora", "style", "0" * 64, "0" * 12, scale=0.8)
WEAK = Merged("lora", "style", "0" * 64, "0" * 12, scale=0.5)
LCM = Merged("lora", "lcm", "1" * 64, "1" * 12)
BAD = Merged("embedding", "Bad Hands", "2" * 64, "2" * 12)

MADE = "the original was made with {}, the bundle was exported without: the image will differ"
EXPORTED = "the bundle was exported with {}, the original was made without: the image will differ"


def messages(
    recorded: object, *merged: Merged, prompt: str = "a circle", negative: str | None = None
) -> list[str]:
    request = Request(prompt, negative_prompt=negative)
    record = Record({"merged": recorded})
    return [note.message for note in notes_on_merged(request, record, merged)]


def in_json(*merged: Merged) -> list[dict[str, Any]]:
    return [asdict(each) for each in merged]


def in_a1111_s_text(*merged: Merged) -> list[dict[str, Any]]:
    names = ("kind", "name", "short_hash")
    return [{name: getattr(each, name) for name in names} for each in merged]


@pytest.mark.parametrize("written", [in_json, in_a1111_s_text])
def test_the_same_ones_need_no_note(written: Any) -> None:
    assert messages(written(STYLE, LCM, BAD), LCM, STYLE, BAD, prompt="bad hands") == []
    assert messages(written()) == []


def test_an_image_without_any_needs_no_note() -> None:
    assert list(notes_on_merged(Request("a circle"), Record({}), ())) == []


def test_loras_that_only_one_has() -> None:
    assert messages(in_json(STYLE, LCM), LCM) == [MADE.format("the LoRA 'style' (scale 0.8)")]
    assert messages(in_a1111_s_text(STYLE)) == [MADE.format("the LoRA 'style'")]
    both = "the LoRA 'style' (scale 0.8), the LoRA 'lcm' (scale 1.0)"
    assert messages([], STYLE, LCM) == [EXPORTED.format(both)]


def test_another_scale_is_another_lora() -> None:
    assert messages(in_json(STYLE), WEAK) == [
        MADE.format("the LoRA 'style' (scale 0.8)"),
        EXPORTED.format("the LoRA 'style' (scale 0.5)"),
    ]
    assert messages(in_a1111_s_text(STYLE), WEAK) == []  # which does not say the scale


@pytest.mark.parametrize(
    ("texts", "noted"),
    [
        ({}, False),
        ({"prompt": "a BAD HANDS circle"}, True),
        ({"negative": "blurry, bad hands"}, True),
    ],
)
def test_embeddings_count_if_a_prompt_has_them(texts: dict[str, Any], noted: bool) -> None:
    title = "the embedding 'Bad Hands'"
    assert messages(in_json(BAD), **texts) == [MADE.format(title)] * noted
    assert messages([], BAD, **texts) == [EXPORTED.format(title)] * noted


@pytest.mark.parametrize("recorded", [None, 1, "text", [1], [{}], [[]], [{"kind": "lora"}]])
def test_anything_may_be_recorded(recorded: object) -> None:
    with pytest.raises(RequestError, match=r"merged: the PNG says .*, expected the kind, name"):
        messages(recorded)


def test_names_of_strangers_are_shown_on_one_line() -> None:
    recorded = [{"kind": "lora", "name": "a\nb", "short_hash": 1, "scale": "x"}]
    assert messages(recorded) == [MADE.format(r"the LoRA 'a\nb' (scale x)")]
