from __future__ import annotations

import pytest

from sdrt.bundle.folder import Bundle
from sdrt.targets.int8 import (
    int8_refusal,
    int8_target,
    int8_targets,
    note_on_processor,
    notes_on_int8,
)
from sdrt_engines import Target, TargetError, backend_of
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
    bundle, (target, *_) = Bundle.open("demo"), int8_targets()
    reason = int8_refusal(bundle, backend_of(target), target)
    assert "--precision int8` builds it" in str(reason)
    assert int8_refusal(bundle, backend_of(target), Target(target.backend)) is None


@pytest.mark.parametrize(("processor", "noted"), [(OLD, True), (NEW, False), (UNKNOWN, False)])
def test_a_processor_without_instructions_for_int8_is_noted(
    processor: Processor, noted: bool
) -> None:
    note = note_on_processor(Target.parse("openvino:int8"), processor)
    assert (note is not None) == noted
    if note is not None:
        assert "so it is probably slower than openvino: compare them" in note.message


def test_a_denoiser_that_was_not_built_is_noted() -> None:
    bundle, target = Bundle.open("demo"), Target.parse("cpu:int8")
    notes = list(notes_on_int8(bundle, target, ["text_encoder", "unet_controlled"]))
    assert [note.code for note in notes if note.code != "slow_int8"] == ["not_in_int8"]
    assert list(notes_on_int8(bundle, Target("cpu"), ["unet_controlled"])) == []
