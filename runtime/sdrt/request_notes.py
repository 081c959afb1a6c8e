"""Notes on a request: settings that have no effect or may surprise."""

from __future__ import annotations

from collections.abc import Iterator

from sdrt.bundle.folder import Bundle
from sdrt.denoising.conditioning import branches_of
from sdrt.images.framing import Size, size_text
from sdrt.notes import Note
from sdrt.request import Request
from sdrt.resolving import Settings, size_of_input

_FAR = 2.5  # between the numbers of pixels; 768×768 of 512×512 is 2.25


def notes_on(request: Request, settings: Settings, bundle: Bundle) -> Iterator[Note]:
    """The facts that a user should know before the image exists."""
    yield from _without_guidance(request, settings, bundle)
    yield from _replaced_steps(request)
    yield from _cut_size(request, settings)
    yield from _far_size(request, settings, bundle)


def _without_guidance(request: Request, settings: Settings, bundle: Bundle) -> Iterator[Note]:
    if "negative" in branches_of(bundle.family.denoiser, settings.guidance_scale):
        return
    given = {
        "negative_prompt": any(request.negative_prompts),
        "guidance_rescale": request.guidance_rescale > 0,
    }
    scale = f"guidance_scale is {settings.guidance_scale:g}"
    for name, is_given in given.items():
        if is_given:
            yield Note("no_guidance", name, f"{name}: has no effect without guidance ({scale})")


def _replaced_steps(request: Request) -> Iterator[Note]:
    for name in ("timesteps", "sigmas"):
        custom = getattr(request, name)
        if custom is not None and request.num_inference_steps not in (None, len(custom)):
            yield Note(
                "steps_replaced",
                "num_inference_steps",
                f"num_inference_steps: {request.num_inference_steps} has no effect together with "
                f"{name}, which give {len(custom)} steps",
            )


def _cut_size(request: Request, settings: Settings) -> Iterator[Note]:
    """diffusers also cuts an input image's size to whole latents."""
    given, size = size_of_input(request), (settings.width, settings.height)
    if given is None or request.width is not None or request.height is not None:
        return
    if given != size:
        yield Note(
            "size_cut",
            "image" if request.image is not None else "control",
            f"the input image has {size_text(given)} pixels, the result {size_text(size)}, the "
            "nearest smaller size that the model can generate",
        )


def _far_size(request: Request, settings: Settings, bundle: Bundle) -> Iterator[Note]:
    native: Size = bundle.family.native_size
    ratio = settings.width * settings.height / (native[0] * native[1])
    if request.image is None and not 1 / _FAR <= ratio <= _FAR:
        size = size_text((settings.width, settings.height))
        yield Note(
            "size_untrained",
            "width",
            f"width and height: {size} pixels are far from the {size_text(native)} that the model "
            "was trained for: the image may look worse",
        )
