from __future__ import annotations

import numpy as np
import pytest

from sdrt_engines.errors import did_you_mean, is_out_of_memory, nearest, quoted


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("bad allocation"), True),
        (RuntimeError("can't alloc"), True),  # OpenVINO
        (RuntimeError("Failed to allocate memory for requested buffer of size 5368709120"), True),
        (RuntimeError("CUDA failure 2: out of memory"), True),
        (RuntimeError("ensure the pre-allocated shapes match the expected output shapes"), False),
        (ValueError("no such operator"), False),
    ],
)
def test_every_library_s_way_to_say_it(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


KNOWN = ("num_inference_steps", "timesteps", "width", "height")
ALIASES: dict[str, str | tuple[str, ...]] = {
    "steps": "num_inference_steps",
    "size": ("width", "height"),
    "lora": "adapters",
}


@pytest.mark.parametrize(
    ("word", "end"),
    [
        ("timestep", "did you mean 'timesteps'?"),
        ("steps", "did you mean 'num_inference_steps'?"),  # though 'timesteps' is spelt alike
        ("STEPS", "did you mean 'num_inference_steps'?"),
        ("size", "did you mean 'width' or 'height'?"),
        ("lora", "known: num_inference_steps, timesteps, width, height"),  # nothing known is meant
        ("zzz", "known: num_inference_steps, timesteps, width, height"),
    ],
)
def test_did_you_mean_knows_other_programs_words(word: str, end: str) -> None:
    assert did_you_mean(word, KNOWN, ALIASES) == end


@pytest.mark.parametrize(
    ("word", "name"),
    [("CPU", "cpu"), ("cup", "cpu"), ("npu", None), ("tpu", None), ("cudda", "cuda")],
)
def test_a_short_word_with_a_wrong_letter_is_another_word(word: str, name: str | None) -> None:
    assert nearest(word, ["cpu", "cuda"]) == name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        ("a\nb", r"'a\nb'"),
        (10**400, "1000000000"),
        ([1, [10**5000]], "[1, [a whole number of 16610 bits]]"),
        (np.zeros((2, 2)), "array([[0., 0.], [0., 0.]])"),
    ],
)
def test_every_value_is_quoted_on_one_line(value: object, text: str) -> None:
    assert quoted(value).startswith(text)


@pytest.mark.parametrize("value", ["x" * 10**7, list(range(10**6)), [10**5000], np.zeros(10**6)])
def test_a_long_value_is_cut(value: object) -> None:
    assert len(quoted(value)) <= 90


def test_a_long_word_is_near_to_none() -> None:
    assert nearest("x" * 10**7, KNOWN) is None
    assert did_you_mean("x" * 10**7, KNOWN).startswith("known: ")
