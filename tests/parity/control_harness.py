"""Requests with ControlNets, in the terms of diffusers and of sdrt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from PIL import Image

from parity.parity_images import sample_image
from parity.pipeline_harness import (
    Case,
    Ours,
    Theirs,
    assert_same,
    case,
    generated_by_diffusers,
    generated_by_us,
)
from sdrt import Control
from sdrt.images.reading import array_from_image

Nets: TypeAlias = Callable[[str, tuple[str, ...]], Any]  # recipe, names -> diffusers' ControlNet

EDGES, DEPTH = sample_image(32, 32, seed=1), sample_image(32, 32, seed=2).convert("L")


def controlled(
    recipe: str, scheduler: str | None = None, /, *nets: tuple[str, Control], **options: Any
) -> Case:
    """The case for `nets` (name, control), each in the terms of both sides."""
    nets = nets or (("edges", Control(EDGES)),)
    drawn = case(recipe, scheduler, **options)
    controls = [control for _, control in nets]

    def listed(values: list[Any]) -> Any:
        return values if len(values) > 1 else values[0]

    image = "control_image" if "image" in options else "image"
    theirs = {
        image: listed([as_theirs(name, control) for name, control in nets]),
        "controlnet_conditioning_scale": listed([control.scale for control in controls]),
        "control_guidance_start": listed([control.start for control in controls]),
        "control_guidance_end": listed([control.end for control in controls]),
    }
    return drawn.together_with({"control": dict(nets)}, theirs)


def assert_alike(
    case: Case,
    kind: Any,
    ours: Ours,
    theirs: Theirs,
    nets: Nets,
    correct: Callable[[Any], None] = lambda pipe: None,
) -> None:
    """Compares a case with a pipeline of diffusers, once that is `correct`ed."""
    net = nets(case.recipe, tuple(case.ours["control"]))
    pipe = theirs(case.recipe, case.scheduler, kind, controlnet=net)
    correct(pipe)
    assert_same(generated_by_us(ours(case.recipe), case), generated_by_diffusers(pipe, case))


def as_theirs(name: str, control: Control) -> Image.Image | torch.Tensor:
    """diffusers converts every image to RGB, so a net with one channel needs a tensor."""
    assert control.input_image is not None
    image = control.input_image.image
    return torch.from_numpy(array_from_image(image.convert("L"))) if name == "depth" else image


def edges(scale: float = 1.0, start: float = 0.0, end: float = 1.0) -> tuple[str, Control]:
    return "edges", Control(EDGES, scale, start, end)


def depth(scale: float = 1.0, start: float = 0.0, end: float = 1.0) -> tuple[str, Control]:
    return "depth", Control(DEPTH, scale, start, end)
