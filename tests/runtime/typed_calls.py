"""Calls that type checkers accept, and calls that they reject; nothing here runs.

mypy and pyright fail on this file if they stop rejecting a call that has an ignore comment.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from PIL.Image import Image

import sdrt


def accepted(pipe: sdrt.Pipeline, request: sdrt.Request, image: Image) -> None:
    result = pipe("a red circle", seed=7, num_inference_steps=20, guidance_scale=7)
    assert_type(result, sdrt.Result)
    assert_type(result.notes, tuple[sdrt.Note, ...])
    pipe(["a", "b"], negative_prompt=["c", "d"], timesteps=[900, 500], image=Path("in.png"))
    pipe(request, seed=9, control={"edges": sdrt.Control(image, scale=0.8), "depth": "depth.png"})
    pipe("a", prompt_2="b", negative_prompt=None, original_size=(768, 1024), aesthetic_score=7)
    pipe("a", deadline=2.5, seed=7, last=True)
    pipe.warm_up([(512, 512), (768, 512)], batch=4, vae="tiny", control={"edges": image})
    assert_type(pipe.stream("a", deadline=60, scheduler="euler_a", resize="crop"), sdrt.Stream)


def rejected(pipe: sdrt.Pipeline) -> None:
    pipe("x", seed="seven")  # type: ignore[arg-type]
    pipe("x", num_steps=20)  # type: ignore[call-arg]
    pipe.stream("x", resize="corp")  # type: ignore[arg-type]
    pipe("x", deadline="soon")  # type: ignore[arg-type]
    pipe.warm_up(512)  # type: ignore[arg-type]
    pipe.stream(7)  # type: ignore[arg-type]
    sdrt.Request("x", width=512.0)  # type: ignore[arg-type]
