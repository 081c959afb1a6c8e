"""The numbers about an image that SDXL's denoisers take: sizes, crop, aesthetic score.

In training they say how an image was scaled and cropped (Podell et al. 2023,
https://arxiv.org/abs/2307.01952, section 2.2). Heights come before widths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from sdrt.denoising.conditioning import Branch
from sdrt.errors import RequestError
from sdrt.families.family import DenoiserFacts, Task
from sdrt.images.framing import Size
from sdrt.request import Request

TimeIds: TypeAlias = Mapping[Branch, tuple[float, ...]]  # the same for all images

_FIELDS = {  # those of a request, by the names in `DenoiserFacts`
    "original_size": "original_size",
    "crop": "crops_coords_top_left",
    "target_size": "target_size",
    "aesthetic_score": "aesthetic_score",
}
_NEGATIVE_FIELDS = {name: f"negative_{field}" for name, field in _FIELDS.items()}
NEGATIVE_FIELDS = tuple(_NEGATIVE_FIELDS.values())
_UNCROPPED = (0, 0)


def require_time_ids(request: Request, *denoisers: DenoiserFacts) -> None:
    """RequestError for a number that none of the denoisers takes."""
    names = dict.fromkeys(name for facts in denoisers for name in facts.time_ids)
    taken = ", ".join(_FIELDS[name] for name in names) or "no sizes"
    for fields in (_FIELDS, _NEGATIVE_FIELDS):
        for name, field in fields.items():
            value = getattr(request, field)
            if value is not None and name not in names:
                raise RequestError(
                    f"{field}: got {value}, but this bundle's model takes {taken}: leave it out"
                )


def time_ids_of(
    request: Request, size: Size, facts: DenoiserFacts, task: Task | None = None
) -> TimeIds:
    """The numbers for the rows of each branch; `size` is that of the generated image. `task` is the
    request's unless given: a refiner begins at latents, as for image to image.

    Source: `_get_add_time_ids` of diffusers' SDXL pipelines, and what they pass to it.
    """
    width, height = size
    score, negative_score = request.aesthetic_score, request.negative_aesthetic_score
    positive: dict[str, tuple[float, ...]] = {
        "original_size": request.original_size or (height, width),
        "crop": request.crops_coords_top_left or _UNCROPPED,
        "target_size": request.target_size or (height, width),
        "aesthetic_score": (6.0 if score is None else score,),
    }
    negative: dict[str, tuple[float, ...] | None] = {
        "original_size": request.negative_original_size,
        "crop": request.negative_crops_coords_top_left or _UNCROPPED,
        "target_size": request.negative_target_size,
        "aesthetic_score": (2.5 if negative_score is None else negative_score,),
    }
    shared = _shared(request, task or request.task, facts)
    own = {name: ids for name, ids in negative.items() if ids is not None and name not in shared}
    numbers: Mapping[Branch, dict[str, tuple[float, ...]]]
    numbers = {"negative": positive | own, "positive": positive}
    return {
        branch: tuple(number for name in facts.time_ids for number in ids[name])
        for branch, ids in numbers.items()
    }


def without_effect(request: Request, facts: DenoiserFacts) -> Iterator[tuple[str, str]]:
    """The fields that were given and have no effect, each with the reason."""
    for name, reason in _shared(request, request.task, facts).items():
        field = _NEGATIVE_FIELDS[name]
        if getattr(request, field) is not None:
            yield field, reason


def _shared(request: Request, task: Task, facts: DenoiserFacts) -> Mapping[str, str]:
    """The numbers that the negative prompt shares with the prompt whatever is given, each with the
    reason, as in diffusers."""
    if task != "text to image" or "target_size" not in facts.time_ids:
        scored = "aesthetic_score" in facts.time_ids
        return {} if scored else {"crop": "if there is an image: the prompt's crop counts for both"}
    sizes = [_NEGATIVE_FIELDS[name] for name in ("original_size", "target_size")]
    missing = [field for field in sizes if getattr(request, field) is None]
    reason = f"without {' and '.join(missing)}"
    return dict.fromkeys(("original_size", "crop", "target_size"), reason) if missing else {}
