"""The distinct requests of a soak, and requests that are refused: seeded, of every task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from sdrt import Control, Pipeline, Request, RequestError

Options: TypeAlias = dict[str, Any]

SIDE = 64  # pixels
SIZE: Options = {"width": SIDE, "height": SIDE}
CONTROLNET = "edges"
COLOURS = ("red", "blue", "green", "yellow", "black")
SHAPES = ("circle", "star", "square", "triangle", "ring")
SCHEDULERS = (
    *("ddim", "ddpm", "euler", "euler_a", "heun", "lms", "unipc", "deis"),
    *("kdpm2_a", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_2m_karras", "dpmpp_3m", "dpmpp_2s"),
)


def distinct_requests(seed: int, number: int, pipe: Pipeline) -> tuple[Request, ...]:
    """Requests of 1 to 8 steps, which differ in their seeds at least; `pipe` can run them all."""
    found: list[Request] = []
    for request in _endless(Random(f"{seed} requests")):
        try:
            pipe.resolve(request)
        except RequestError:  # a scheduler that needs more steps than this request has
            continue
        found.append(request)
        if len(found) == number:
            break
    return tuple(found)


def _endless(random: Random) -> Iterator[Request]:
    number = 0
    while True:
        for task in _TASKS:
            yield Request(**{"seed": number, **_common(random), **task(random)})
            number += 10  # more than a request's images, which have consecutive seeds


def _common(random: Random) -> Options:
    options: Options = {
        "prompt": _prompt(random),
        "num_inference_steps": random.randint(1, 8),
        "scheduler": random.choice((None, *SCHEDULERS)),
        "guidance_scale": random.choice((None, 1, 3, 7.5)),
    }
    return options | ({"negative_prompt": _prompt(random)} if random.random() < 0.4 else {})


def _prompt(random: Random) -> str:
    return f"a {random.choice(COLOURS)} {random.choice(SHAPES)} on a white background"


# --- the tasks


def _text(random: Random) -> Options:
    return SIZE


def _image(random: Random) -> Options:
    return {"image": _drawing(random), "strength": random.choice((0.3, 0.6, 1.0))}


def _inpainting(random: Random) -> Options:
    crop = {"padding_mask_crop": random.randint(0, 16), **SIZE} if random.random() < 0.3 else {}
    return {**_image(random), "mask_image": _mask(random), **crop}


def _control(random: Random) -> Options:
    start = random.choice((0, 0, 0.3))
    scale, end = random.choice((0.5, 1.0)), random.choice((1.0, 0.7))
    control = {CONTROLNET: Control(_drawing(random), scale=scale, start=start, end=end)}
    return {"control": control, "guess_mode": random.random() < 0.3, **SIZE}


def _batch(random: Random) -> Options:
    return {"num_images_per_prompt": random.randint(2, 4), **SIZE}


def _prompts(random: Random) -> Options:
    return {"prompt": [_prompt(random) for _ in range(random.randint(1, 3))], **SIZE}


def _syntax(random: Random) -> Options:
    """Weights, edits and prompts of several lengths in one request."""
    words = [f"({_prompt(random)}:{random.uniform(0.5, 1.5):.1f})" for _ in range(3)]
    prompts = [words[0], f"[{words[0]}|{words[1]}]", " BREAK ".join(words)]
    return {
        "prompt": random.sample(prompts, random.randint(1, 3)),
        "negative_prompt": f"[{_prompt(random)}:0.5]",
        "prompt_syntax": "a1111",
        **SIZE,
    }


_TASKS: tuple[Callable[[Random], Options], ...] = (
    *(_text, _text, _image, _image),
    *(_inpainting, _inpainting, _control, _control),
    *(_batch, _prompts, _syntax),
)


def _drawing(random: Random) -> Image.Image:
    colours = np.array([[random.randrange(256) for _ in range(3)] for _ in range(16)], np.uint8)
    return Image.fromarray(colours.reshape(4, 4, 3)).resize((SIDE, SIDE))


def _mask(random: Random) -> Image.Image:
    mask = Image.new("L", (SIDE, SIDE))
    left, top = random.randrange(SIDE // 2), random.randrange(SIDE // 2)
    mask.paste(255, (left, top, left + SIDE // 2, top + SIDE // 2))
    return mask


# --- bad input

BAD: tuple[Options, ...] = (
    {"seed": -1},
    {"seed": "seven"},
    {"num_inference_steps": 0},
    {"num_inference_steps": 10**6},
    {"guidance_scale": float("nan")},
    {"width": 65},
    {"height": 10**5},
    {"scheduler": "eulr"},
    {"timesteps": [1, 2, 3], "sigmas": [1.0, 0.5]},
    {"strength": 0.5},
    {"mask_image": Image.new("L", (SIDE, SIDE))},
    {"image": "no-such-file.png"},
    {"image": Image.new("RGB", (SIDE, SIDE)), "mask_image": Image.new("L", (8, 8))},
    {"control": {"depth": Image.new("RGB", (SIDE, SIDE))}},
    {"control": {CONTROLNET: np.full((SIDE, SIDE, 3), np.nan)}},
    {"negative_prompt": ["one", "two"]},
    {"num_images_per_prompt": 10**4},
    {"prompt": "a (red:9999) circle", "prompt_syntax": "a1111"},
    {"stepz": 4},
)
