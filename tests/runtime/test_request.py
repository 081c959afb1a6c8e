"""Requests: every impossible value is refused by name when the request is made."""

import math

import pytest

from sdrt.errors import RequestError
from sdrt.request import Request


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"height": 0}, "height: got 0, expected a whole number from 8 to 8192"),
        ({"width": 512.0}, "width: got 512.0, expected a whole number"),
        ({"num_inference_steps": 0}, "num_inference_steps: got 0, expected a whole number from 1"),
        ({"num_inference_steps": 100_000}, "from 1 to 1000"),
        ({"num_inference_steps": True}, "num_inference_steps: got True"),
        ({"guidance_scale": math.nan}, "guidance_scale: got nan, expected a number from 0"),
        ({"guidance_scale": math.inf}, "guidance_scale: got inf"),
        ({"guidance_scale": "7"}, "guidance_scale: got '7'"),
        ({"guidance_rescale": 1.5}, "guidance_rescale: got 1.5, expected a number from 0 to 1"),
        ({"eta": -0.1}, "eta: got -0.1"),
        ({"seed": -1}, "seed: got -1, expected a whole number from 0"),
        ({"seed": 2**64}, "seed: got 18446744073709551616"),
        ({"seed": 2**64 - 1, "num_images_per_prompt": 2}, "seed: 18446744073709551615 + 1 images"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt: got 0"),
        ({"clip_skip": -1}, "clip_skip: got -1"),
        ({"negative_prompt": ["a", "b"]}, "negative_prompt: got 2 texts for 1 prompts"),
        ({"negative_prompt": 3}, "negative_prompt: got 3, expected a text"),
        ({"timesteps": [1], "sigmas": [1.0]}, "timesteps and sigmas were both given"),
        (
            {"guidence_scale": 3},
            "unknown parameter 'guidence_scale': did you mean 'guidance_scale'",
        ),
    ],
)
def test_impossible_values_are_refused_by_name(keywords, message):
    with pytest.raises(RequestError) as caught:
        Request.from_keywords("a circle", keywords)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "prompt: got an empty list"),
        ([1], "prompt: got 1, expected"),
        (None, "prompt: got None"),
    ],
)
def test_impossible_prompts_are_refused(prompt, message):
    with pytest.raises(RequestError) as caught:
        Request(prompt)
    assert message in str(caught.value)


def test_zero_is_a_value():
    request = Request("a circle", seed=0, guidance_scale=0, eta=0.0)
    assert (request.seed, request.guidance_scale) == (0, 0)


def test_prompts_are_repeated_in_the_order_of_the_images():
    request = Request(["a", "b"], negative_prompt=["c", "d"], num_images_per_prompt=2)
    assert request.num_images == 4
    assert request.prompts == ("a", "a", "b", "b")
    assert request.negative_prompts == ("c", "c", "d", "d")
    assert Request(["a", "b"], negative_prompt="c").negative_prompts == ("c", "c")


def test_a_list_that_changes_later_does_not_change_the_request():
    prompts = ["a", "b"]
    request = Request(prompts)
    prompts.append("c")
    assert request.prompts == ("a", "b")
