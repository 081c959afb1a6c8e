"""The asks of a bundle's networks for an image, without running any network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdrt.ask import Answer, Ask
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Component
from sdrt.families.family import Role
from sdrt.pipeline import Pipeline
from sdrt.request import Request
from sdrt.targets.tuned import Shape
from sdrt_engines import BACKENDS, Resolution, Signature, Target, shape_at

if TYPE_CHECKING:
    from PIL.Image import Image

PROMPT = "a photograph of a red circle on a white table"


@dataclass(frozen=True, eq=False)
class Workload:
    """The asks of one batch of images, with the bundle's own defaults."""

    text: tuple[Ask, ...]  # every text encoder
    step: Ask  # one run of the denoiser
    num_steps: int  # number of these runs
    decode: tuple[Ask, ...]  # an image each


def workload_of(bundle: Bundle, shape: Shape) -> Workload:
    """The asks for images of that shape. RequestError if the bundle cannot generate it."""
    asks: dict[Role, list[Ask]] = defaultdict(list)
    for ask in _asks(bundle, _request(bundle, shape)):
        asks[_asked(ask, bundle).role].append(ask)
    steps = asks["denoiser"]
    return Workload(
        text=tuple(asks["text encoder"]),
        step=steps[0],
        num_steps=len(steps),
        decode=tuple(asks["vae decoder"] * shape.batch),
    )


def _request(bundle: Bundle, shape: Shape) -> Request:
    """Text to image; for an inpainting denoiser, a white image with everything masked."""
    inpaints = bundle.family.denoiser.extra_channels == "mask"
    image = _white_image(shape) if inpaints else None
    return Request(
        PROMPT,
        width=shape.width,
        height=shape.height,
        num_images_per_prompt=shape.batch,
        seed=0,
        image=image,
        mask_image=image,
    )


def _white_image(shape: Shape) -> Image:
    from PIL.Image import new

    return new("RGB", (shape.width, shape.height), "white")


def _asks(bundle: Bundle, request: Request) -> Iterator[Ask]:
    """All asks of a generation up to its first image; equal asks come once."""
    pipeline = Pipeline(bundle, Resolution(Target(BACKENDS[0].name)))  # it opens no engine
    events = pipeline.generation(request).events()
    random = np.random.default_rng(0)
    answer: Answer | None = None
    while True:
        event, answer = events.send(answer), None
        if isinstance(event, Ask):
            yield event
            component = _asked(event, bundle)
            if component.role == "vae decoder":
                return
            answer = _random_answer(event, component.signature, random)


def _asked(ask: Ask, bundle: Bundle) -> Component:
    """The network whose outputs are requested."""
    return bundle.component(ask.chain[-1].component)


def _random_answer(ask: Ask, signature: Signature, random: np.random.Generator) -> Answer:
    """Noise in place of a network's answer: the time depends on shapes alone."""
    link = ask.chain[-1]
    feeds = {**link.constant.feeds, **link.changing}
    sizes = {
        dim: size
        for spec in signature.inputs
        for dim, size in zip(spec.shape, feeds[spec.name].shape, strict=True)
        if isinstance(dim, str)
    }
    outputs = {}
    for name in ask.outputs:
        spec = signature.output(name)
        noise = random.standard_normal(shape_at(spec, sizes))
        outputs[name] = noise.astype(spec.dtype)
    return Answer(outputs)
