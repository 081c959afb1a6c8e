from __future__ import annotations

import pytest

from sdrt.bundle.folder import Bundle
from sdrt.targets.int8 import int8_refusal, int8_target, int8_targets, notes_on_int8
from sdrt_engines import Target, TargetError
from sdrt_engines.processor import Processor

OLD, NEW = Processor("old", frozenset({"avx2"})), Processor("new", frozenset({"avx512_vnni"}))
UNKNOWN = Processor("unknown", frozenset())


def test_the_targets_in_int8() -> None:
    assert [str(target) for target in int8_targets()] == ["cpu:int8", "openvino:int8"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [("cpu", "cpu:int8"), ("openvino:bf16", "openvino:int8"), ("auto", "cpu:int8")],
)
def test_int8_replaces_the_precision_of_a_target(target: str, expected: str) -> None:
    assert str(int8_target(Bundle.open("demo"), target)) == expected


def test_a_target_without_int8_is_refused() -> None:
    with pytest.raises(TargetError, match=r"'cuda' does not compute in int8: use one of cpu:int8"):
        int8_target(Bundle.open("demo"), "cuda")


def test_a_bundle_without_an_int8_denoiser_says_how_to_build_one() -> None:
    assert "--precision int8` builds it" in str(int8_refusal(Bundle.open("demo")))


@pytest.mark.parametrize(
    ("target", "processor", "noted"),
    [
        ("cpu:int8", OLD, True),
        ("openvino:int8", OLD, True),
        ("cpu:int8", NEW, False),
        ("cpu:int8", UNKNOWN, False),
        ("cpu", OLD, False),
        ("cuda", OLD, False),
    ],
)
def test_a_processor_without_instructions_for_int8_is_noted(
    target: str, processor: Processor, noted: bool
) -> None:
    notes = list(notes_on_int8(Target.parse(target), processor))
    assert [note.code for note in notes] == (["slow_int8"] if noted else [])
