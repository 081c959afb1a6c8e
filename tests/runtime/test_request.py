"""Requests: every impossible value is refused by name when the request is made."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdrt.control import Control
from sdrt.errors import RequestError, SamplerError
from sdrt.request import Request, request_from
from support.images import mask, sample_image

IMAGE, MASK = sample_image(24, 16), mask(24, 16, (0, 0, 8, 8))


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
        (
            {"seed": 2**64 - 1, "num_images_per_prompt": 2},
            "seed: got 18446744073709551615 for 2 images",
        ),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt: got 0"),
        ({"clip_skip": -1}, "clip_skip: got -1"),
        ({"negative_prompt": ["a", "b"]}, "negative_prompt: got a list of 2 for 1 prompts"),
        ({"prompt_2": ["a", "b"]}, "prompt_2: got a list of 2 for 1 prompts, expected one string"),
        ({"negative_prompt_2": ["a", "b"]}, "negative_prompt_2: got a list of 2 for 1 prompts"),
        ({"prompt_2": 3}, "prompt_2: got 3, expected a string or a list of strings"),
        (
            {"original_size": 1024},
            "original_size: got 1024, expected a pair (height, width), each a whole number from 1",
        ),
        ({"target_size": (1, 2, 3)}, "target_size: got (1, 2, 3), expected a pair (height, width)"),
        ({"target_size": "12"}, "target_size: got '12', expected a pair (height, width)"),
        ({"original_size": (512, 0)}, "original_size[1] (width): got 0, expected a whole number"),
        ({"original_size": (2.5, 8)}, "original_size[0] (height): got 2.5, expected a whole numb"),
        ({"crops_coords_top_left": (-1, 0)}, "crops_coords_top_left[0] (top): got -1, expected"),
        ({"negative_target_size": (8, 65537)}, "negative_target_size[1] (width): got 65537, exp"),
        ({"aesthetic_score": 11}, "aesthetic_score: got 11, expected a number from 0 to 10"),
        ({"negative_prompt": 3}, "negative_prompt: got 3, expected a string"),
        ({"timesteps": [1], "sigmas": [1.0]}, "timesteps and sigmas were both given"),
        (
            {"timesteps": 20},
            "timesteps: got 20, expected a list of 1000 items at most, each a number from 0",
        ),
        ({"timesteps": []}, "timesteps: got an empty list, expected a list"),
        ({"timesteps": ["9"]}, "timesteps[0]: got '9', expected a number from 0"),
        ({"timesteps": "999"}, "timesteps: got '999', expected a list"),
        ({"timesteps": b"999"}, "timesteps: got b'999', expected a list"),
        ({"timesteps": iter([1])}, "expected a list"),
        ({"timesteps": memoryview(b"99")}, "timesteps: got <memory at"),
        ({"timesteps": range(10**30)}, "timesteps: got more, expected a list of 1000 items at"),
        ({"negative_prompt": "x" * 10_001}, "negative_prompt: got a string of 10001 characters, "),
        ({"num_images_per_prompt": 1025}, "num_images_per_prompt: got 1025, expected"),
        ({"seed": 10**5000}, "seed: got a whole number of 16610 bits, expected"),
        ({"sigmas": [10**5000]}, "sigmas[0]: got a whole number of 16610 bits"),
        ({"resize": 10**5000}, "resize: got a whole number of 16610 bits, known: crop"),
        ({"resize": np.array(["crop", "pad"])}, "resize: got array(['crop', 'pad'], dtype='<U4')"),
        ({"scheduler": "x" * 10**6}, "xxx' is unknown: use one of "),
        ({"x" * 10**6: 1}, "xxx': known: prompt, "),
        ({"control": {"x" * 300: IMAGE}}, "xxx', expected the name of a ControlNet"),
        ({"sigmas": [math.nan]}, "sigmas[0]: got nan"),
        ({"negative_prompt": b"a"}, "negative_prompt: got b'a', expected a string or a list"),
        ({"scheduler": object()}, "expected a name: give a name such as 'euler'"),
        ({"num_images_per_prompt": None}, "num_images_per_prompt: got None, expected a whole"),
        ({"seed": np.bool_(True)}, "seed: got"),
        ({"seed": np.float32(3)}, "seed: got"),
        ({"seed": "x" * 1000}, "..."),
        ({"guidance_scale": True}, "guidance_scale: got True"),
        ({"guidance_scale": 10**400}, "guidance_scale: got 1000"),
        ({"strength": 1.5}, "strength: got 1.5, expected a number from 0 to 1"),
        ({"strength": -0.1}, "strength: got -0.1"),
        ({"strength": math.nan}, "strength: got nan"),
        ({"strength": "0.5"}, "strength: got '0.5'"),
        ({"strength": 0.5}, "strength was given without image: give both, or neither"),
        ({"strength": 0}, "strength was given without image: give both, or neither"),
        ({"mask_image": MASK}, "mask_image was given without image: give both, or neither"),
        (
            {"image": IMAGE, "padding_mask_crop": 0},
            "padding_mask_crop was given without mask_image: give both, or neither",
        ),
        ({"image": IMAGE, "mask_image": MASK, "padding_mask_crop": -1}, "padding_mask_crop: got"),
        ({"guess_mode": True}, "guess_mode was given without control: give both, or neither"),
        ({"guess_mode": 1}, "guess_mode: got 1, expected True or False"),
        ({"scheduler": object()}, "scheduler: got an object of class object, expected a name: giv"),
        ({"image": IMAGE, "resize": "corp"}, "resize: got 'corp', did you mean 'crop'?"),
        ({"image": IMAGE, "resize": 5}, "resize: got 5, known: crop, pad, stretch"),
        ({"resize": "crop"}, "resize was given without an image: give image or control, too"),
        (
            {"image": IMAGE, "mask_image": MASK, "padding_mask_crop": 8, "resize": "crop"},
            "resize and padding_mask_crop were both given",
        ),
        (
            {"image": IMAGE, "mask_image": sample_image(16, 24)},
            "mask_image: got 16×24 pixels, expected 24×16 like the image: white where",
        ),
        ({"image": "gone.png"}, "image: 'gone.png' cannot be read: No such file or directory"),
        ({"image": [IMAGE]}, "image: got an object of type list, expected a PIL image or the path"),
        (
            {"image": IMAGE, "mask_image": 3},
            "mask_image: got an object of type int, expected a PIL image",
        ),
        (
            {"control": IMAGE},
            "control: got an object of type Image, expected a dict from ControlNet names",
        ),
        ({"control": {5: IMAGE}}, "control: got 5, expected the name of a ControlNet"),
        ({"control": {"edges": None}}, "control image: got an object of type NoneType"),
        (
            {"guidence_scale": 3},
            "unknown parameter 'guidence_scale': did you mean 'guidance_scale'",
        ),
    ],
)
def test_impossible_values_are_refused_by_name(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises((RequestError, SamplerError)) as caught:
        request_from("a circle", keywords)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "prompt: got an empty list"),
        ([1], "prompt: got 1, expected"),
        (["a"] * 1025, "num_images_per_prompt: got 1 for each of 1025 prompts, expected 1024"),
        ("x" * 10**7, "prompt: got a string of 10000000 characters, expected 10000 at most: short"),
        (["a", "x" * 10_001], "prompt: got a string of 10001 characters"),
        (None, "prompt: got None"),
    ],
)
def test_impossible_prompts_are_refused(prompt: Any, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        Request(prompt)
    assert message in str(caught.value)


def test_zero_is_a_value() -> None:
    request = Request("a circle", seed=0, guidance_scale=0, eta=0.0)
    assert (request.seed, request.guidance_scale) == (0, 0)


def test_prompts_are_repeated_in_the_order_of_the_images() -> None:
    request = Request(["a", "b"], negative_prompt=["c", "d"], num_images_per_prompt=2)
    assert request.num_images == 4
    assert request.prompts == ("a", "a", "b", "b")
    assert request.negative_prompts == ("c", "c", "d", "d")
    assert request.prompts_2 == request.prompts
    assert request.negative_prompts_2 == request.negative_prompts
    second = replace(request, prompt_2="e", negative_prompt_2=["f", "g"])
    assert second.prompts_2 == ("e",) * 4
    assert second.negative_prompts_2 == ("f", "f", "g", "g")


def test_without_a_negative_prompt_there_is_no_second_one() -> None:
    request = Request(["a", "b"], negative_prompt_2="c")
    assert request.negative_prompts == request.negative_prompts_2 == (None, None)


@pytest.mark.parametrize("value", [[3, 4], (3, 4), np.array([3, 4])])
def test_pairs_may_be_lists(value: Any) -> None:
    assert Request("a", original_size=value).original_size == (3, 4)
    assert Request(["a", "b"], negative_prompt="c").negative_prompts == ("c", "c")


def test_a_list_that_changes_later_does_not_change_the_request() -> None:
    prompts = ["a", "b"]
    request = Request(prompts)
    prompts.append("c")
    assert request.prompts == ("a", "b")


def test_images_are_read_when_the_request_is_made(tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "in.png")
    request = Request("a", image=tmp_path / "in.png", control={"edges": str(tmp_path / "in.png")})
    (tmp_path / "in.png").unlink()
    assert request.input_image is not None
    assert request.input_image.size == request.controls["edges"].size == (24, 16)
    assert replace(request, seed=1).input_image is request.input_image


def test_a_dict_that_changes_later_does_not_change_the_request() -> None:
    controls = {"edges": Control(IMAGE)}
    request = Request("a", control=controls)
    controls.clear()
    assert list(request.controls) == ["edges"]


@pytest.mark.parametrize("colour", [0, 255])
def test_masks_of_one_colour_are_masks(colour: int) -> None:
    request = Request("a", image=IMAGE, mask_image=Image.new("L", IMAGE.size, colour))
    assert request.mask is not None
    assert request.mask.image.getextrema() == (colour, colour)


def test_one_image_serves_all_prompts() -> None:
    assert Request(["a", "b"], image=IMAGE, strength=0.5).num_images == 2


@pytest.mark.parametrize(
    ("scheduler", "kept"),
    [("DPM++ 2M Karras", "dpmpp_2m_karras"), ("ddimscheduler", "DDIMScheduler"), (None, None)],
)
def test_a_scheduler_is_kept_by_its_canonical_name(scheduler: str | None, kept: str | None) -> None:
    assert Request("a red circle", scheduler=scheduler).scheduler == kept


def test_an_unknown_scheduler_is_refused_when_the_request_is_made() -> None:
    with pytest.raises(SamplerError, match="scheduler 'eluer' is unknown: did you mean 'euler'"):
        Request("a red circle", scheduler="eluer")


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        ("seed", np.int64(3), 3),
        ("seed", np.uint64(2**63), 2**63),
        ("guidance_scale", np.float32(7.5), 7.5),
        ("eta", np.float64(0.5), 0.5),
        ("timesteps", [np.int32(9), 3], (9, 3)),
        ("timesteps", np.array([9, 3]), (9, 3)),
        ("sigmas", (np.float32(1.5), 0), (1.5, 0)),
    ],
)
def test_numbers_of_numpy_are_kept_as_python_s(field: str, given: Any, kept: Any) -> None:
    value = getattr(Request("a", **{field: given}), field)
    assert value == kept and type(value) is type(kept)


def test_keywords_change_a_request() -> None:
    request = Request("a", seed=1, eta=0.5)
    changed = request_from(request, {"seed": 9})
    assert (changed.seed, changed.eta, request.seed) == (9, 0.5, 1)
    with pytest.raises(RequestError, match="unknown parameter 'nonsense'"):
        request_from(request, {"nonsense": 1})
