from __future__ import annotations

import pytest

from sdrt_engines import EngineError, Signature
from sdrt_engines.shape_profiles import Profile, Range, choose_profile, profile_of_signature
from support.onnx_writer import spec

LATENTS = Signature((spec("sample", "float32", "batch", 4, "height", "width"),), ())


def latents(batch: str, side: str) -> Profile:
    sizes = {"batch": batch, "height": side, "width": side}
    return profile_of_signature(LATENTS, {name: Range.parse(s) for name, s in sizes.items()})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2", (2, 2, 2)), ("1..4", (1, 1, 4)), ("1..2..4", (1, 2, 4)), ("3..3", (3, 3, 3))],
)
def test_a_range_is_read(text: str, expected: tuple[int, int, int]) -> None:
    assert Range.parse(text) == Range(*expected)


@pytest.mark.parametrize("text", ["2", "1..4", "1..2..4"])
def test_a_range_is_written_as_it_is_read(text: str) -> None:
    assert str(Range.parse(text)) == text


@pytest.mark.parametrize("text", ["", "a", "1..", "1..2..3..4", "1.5", "1,2"])
def test_an_invalid_range_is_reported(text: str) -> None:
    with pytest.raises(EngineError, match=r"expected a size, MIN\.\.MAX or MIN\.\.OPT\.\.MAX"):
        Range.parse(text)


@pytest.mark.parametrize("text", ["4..1", "2..1..4", "1..5..4", "0..4", "-1"])
def test_impossible_ranges_are_reported(text: str) -> None:
    with pytest.raises(EngineError, match=r"range .*: expected MIN\.\.MAX or MIN\.\.OPT\.\.MAX"):
        Range.parse(text)


@pytest.mark.parametrize(
    ("dim", "expected"),
    [
        (77, "77"),
        ("height", "9..16"),
        ("8*height", "72..128"),
        ("ceil(height/8)", "2..2"),
        ("ceil(height/2)", "5..8"),
    ],
)
def test_sizes_that_follow_from_others(dim: int | str, expected: str) -> None:
    signature = Signature((spec("x", "float32", dim),), ())
    profile = profile_of_signature(signature, {"height": Range.parse("9..16")})
    assert profile.inputs["x"] == (Range.parse(expected),)


@pytest.mark.parametrize("dim", ["num_channels", "height+1", "8*", "ceil(depth/2)"])
def test_a_size_of_another_name_is_reported(dim: str) -> None:
    signature = Signature((spec("x", "float32", dim),), ())
    with pytest.raises(
        EngineError, match=r"input 'x' has a dimension '.*', expected height: export"
    ):
        profile_of_signature(signature, {"height": Range.of(8)})


def test_a_profile_outlives_json() -> None:
    profile = latents("1..2..4", "8..16")
    assert Profile.from_json(profile.to_json()) == profile
    assert profile.to_json() == {"sample": ["1..2..4", "4", "8..16", "8..16"]}


def test_the_ends_of_a_profile() -> None:
    profile = latents("1..2..4", "8..16")
    assert profile.shapes("min") == {"sample": (1, 4, 8, 8)}
    assert profile.shapes("opt") == {"sample": (2, 4, 8, 8)}
    assert profile.shapes("max") == {"sample": (4, 4, 16, 16)}


@pytest.mark.parametrize(
    ("shape", "chosen"),
    [
        ((2, 4, 64, 64), 1),  # static before range
        ((1, 4, 64, 64), 2),
        ((4, 4, 64, 64), 0),
        ((2, 4, 65, 64), 0),
        ((2, 4, 128, 128), 3),  # tuned for it
        ((2, 4, 126, 126), 3),
    ],
)
def test_the_best_profile_is_chosen(shape: tuple[int, ...], chosen: int) -> None:
    profiles = [
        *(latents("1..8", "64..128"), latents("2", "64"), latents("1", "64")),
        latents("1..2..8", "64..128..160"),
    ]
    assert choose_profile("unet", profiles, {"sample": shape}) == chosen


@pytest.mark.parametrize("shape", [(3, 4, 64, 64), (2, 4, 65, 64), (2, 4, 64)])
def test_shapes_outside_all_profiles_are_reported_with_the_known_ones(
    shape: tuple[int, ...],
) -> None:
    with pytest.raises(EngineError) as raised:
        choose_profile("unet", [latents("2", "64"), latents("1..2", "96")], {"sample": shape})
    message = str(raised.value)
    assert message.startswith("unet: no profile of this engine covers sample (")
    assert "it has: sample (2, 4, 64, 64); sample (1..2, 4, 96, 96): build one" in message
