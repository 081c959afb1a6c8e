"""Notes on a request: settings that have no effect or may surprise."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sdrt.bundle.folder import Bundle
from sdrt.control import is_inside
from sdrt.denoising.conditioning import branches_of
from sdrt.denoising.forecast_plan import pays
from sdrt.images.framing import Size, size_text
from sdrt.images.masks import crop_box, empty_mask_text, latent_mask, mask_from_image
from sdrt.notes import Note
from sdrt.presets import note_without_savings
from sdrt.request import Request
from sdrt.resolving import Settings, frame_of, size_of_input
from sdrt.scheduling import Steps
from sdrt.text.a1111 import notes_on_prompt
from sdrt.time_ids import NEGATIVE_FIELDS, without_effect

_SYNTAX = re.compile(r"<\w+:[^<>\n]*>|\([^()\n]*:\s*\d[\d.]*\s*\)")  # <lora:a:0.8>, (red:1.5)
_LONG = 60  # characters of a prompt in a message
_FAR = 2.5  # between the numbers of pixels; 768×768 of 512×512 is 2.25


def notes_on(request: Request, settings: Settings, bundle: Bundle) -> Iterator[Note]:
    """The facts that a user should know before the image exists."""
    yield from _without_guidance(request, settings, bundle)
    yield from _ignored_negatives(request, settings, bundle)
    yield from _empty_interval(request, settings)
    yield from _forecasts(request, settings)
    yield from note_without_savings(request, settings.guidance_scale, settings.steps)
    yield from _replaced_steps(request, settings)
    yield from _cut_size(request, settings)
    yield from _far_size(request, settings, bundle)
    yield from _mask_notes(request, settings, bundle)
    yield from _latents_note(request, bundle)
    yield from _prompt_syntax(request, bundle)
    yield from _ignored_clip_skip(request, bundle)


def _without_guidance(request: Request, settings: Settings, bundle: Bundle) -> Iterator[Note]:
    if "negative" in branches_of(bundle.family.denoiser, settings.guidance_scale):
        return
    given: dict[str, object] = {
        "negative_prompt": any(request.negative_prompts),
        "negative_prompt_2": request.negative_prompt_2,
        "guidance_rescale": request.guidance_rescale > 0,
        "guidance_interval": request.guidance_interval is not None,
        **{name: getattr(request, name) is not None for name in NEGATIVE_FIELDS},
    }
    scale = f"guidance_scale is {settings.guidance_scale:g}"
    for name, is_given in given.items():
        if is_given:
            yield Note("no_guidance", name, f"{name}: has no effect without guidance ({scale})")


def _ignored_negatives(request: Request, settings: Settings, bundle: Bundle) -> Iterator[Note]:
    """Fields for the negative prompt that diffusers ignores without a word."""
    if "negative" not in branches_of(bundle.family.denoiser, settings.guidance_scale):
        return  # which is noted already
    ignored = list(without_effect(request, bundle.family.denoiser))
    if request.negative_prompt_2 and settings.negative_prompt is None:
        ignored.append(("negative_prompt_2", "without negative_prompt"))
    for name, reason in ignored:
        yield Note("ignored_negative", name, f"{name}: has no effect {reason}")


def _empty_interval(request: Request, settings: Settings) -> Iterator[Note]:
    if request.guidance_interval is None:
        return
    start, end = request.guidance_interval
    num_calls = sum(steps.num_calls for steps in _steps(settings))
    if not any(is_inside((start, end), call, num_calls) for call in range(num_calls)):
        yield Note(
            "no_guidance",
            "guidance_interval",
            f"guidance_interval: contains none of the {num_calls} calls completely, so there is no "
            f"guidance ({start:g} to {end:g})",
        )


def _forecasts(request: Request, settings: Settings) -> Iterator[Note]:
    sampler, guidance_scale = settings.steps.sampler, settings.guidance_scale
    forecasts = any(steps.forecast is not None for steps in _steps(settings))
    if forecasts and not pays(sampler, guidance_scale):
        yield Note(
            "forecast_no_gain",
            "forecast",
            f"forecast: with {sampler} at guidance {guidance_scale:g} fewer steps were as exact "
            "with about as many calls",
        )


def _steps(settings: Settings) -> Iterator[Steps]:
    """Those of the bundle and of its refiner."""
    yield from filter(None, (settings.steps, settings.refiner_steps))


def _replaced_steps(request: Request, settings: Settings) -> Iterator[Note]:
    num_steps = settings.num_inference_steps
    for name in ("timesteps", "sigmas"):
        custom = getattr(request, name)
        if custom is not None and request.num_inference_steps not in (None, num_steps):
            yield Note(
                "steps_replaced",
                "num_inference_steps",
                f"num_inference_steps: {request.num_inference_steps} has no effect together with "
                f"{name}, which give {num_steps} steps",
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


def _prompt_syntax(request: Request, bundle: Bundle) -> Iterator[Note]:
    """Tags and weights of A1111's, which diffusers reads as words, too; in A1111's syntax what
    sdrt does not do of it."""
    loras = [(each.name, each.scale) for each in bundle.manifest.merged if each.kind == "lora"]
    for name, prompts in (
        ("prompt", request.prompts),
        ("prompt_2", request.prompts_2 if request.prompt_2 else ()),
        ("negative_prompt", request.negative_prompts),
        ("negative_prompt_2", request.negative_prompts_2 if request.negative_prompt_2 else ()),
    ):
        texts = dict.fromkeys(filter(None, prompts))
        if request.prompt_syntax == "a1111":
            for text in texts:
                yield from notes_on_prompt(name, text, loras)
        elif found := next(filter(None, map(_SYNTAX.search, texts)), None):
            yield Note(
                "prompt_syntax",
                name,
                f"{name}: {found[0][:_LONG]!r} is read as words: weights and tags have no meaning "
                "(prompt_syntax 'a1111' reads weights)",
            )


def _ignored_clip_skip(request: Request, bundle: Bundle) -> Iterator[Note]:
    own = any(encoder.has_own_layer for encoder in bundle.family.text.encoders)
    if request.prompt_syntax == "a1111" and request.clip_skip and own:
        yield Note(
            "clip_skip_ignored",
            "clip_skip",
            "clip_skip: has no effect on this model in A1111's syntax, as in A1111 itself: its "
            "text encoders end at a layer of their own",
        )


def _mask_notes(request: Request, settings: Settings, bundle: Bundle) -> Iterator[Note]:
    """Masks that do less than it seems: diffusers takes all of them without a word."""
    if request.mask is None:
        return
    image, frame = request.mask.image, frame_of(request, settings)
    mask = mask_from_image(image, frame)
    if not mask.any():
        yield _mask_note("mask_empty", f"{empty_mask_text(image)}; nothing is generated")
    elif not latent_mask(mask, bundle.family.latents.vae_scale_factor).any():
        cell = size_text((bundle.family.latents.vae_scale_factor,) * 2)
        yield _mask_note(
            "mask_too_thin",
            f"its white contains no corner of a latent cell of {cell} pixels, so nothing is "
            "generated: make it larger, or give padding_mask_crop",
        )
    if frame.box is not None and request.padding_mask_crop is not None:
        theirs = crop_box(image, frame.size, request.padding_mask_crop, threshold=1)
        if theirs != frame.box:
            yield _mask_note(
                "crop_box_differs",
                f"padding_mask_crop takes the box {frame.box} around its white; diffusers also "
                f"counts dark pixels, takes {theirs}, and so makes another image",
            )


def _latents_note(request: Request, bundle: Bundle) -> Iterator[Note]:
    if request.task == "inpainting" and bundle.family.latents.mean is not None:
        yield _mask_note(
            "latents_differ",
            "the image is encoded with the means and spreads of the model's latents, as it is "
            "decoded; diffusers' inpainting leaves them out, and so makes another image",
        )


def _mask_note(code: str, message: str) -> Note:
    return Note(code, "mask_image", f"mask_image: {message}")
