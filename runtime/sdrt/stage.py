"""The steps that one denoiser takes in a job. A refiner is a second one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sdrt import tensor_names as names
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import RESIDUALS
from sdrt.denoising.conditioning import Branch, branches_of
from sdrt.denoising.controlnets import ControlNet
from sdrt.errors import BundleError
from sdrt.families.family import Family, Task, TextRecipe
from sdrt.images.framing import Size
from sdrt.request import Request
from sdrt.resolving import Settings
from sdrt.scheduling import Steps
from sdrt.text.prompts import Prompts
from sdrt.time_ids import TimeIds, time_ids_of

if TYPE_CHECKING:
    from sdrt.samplers.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Stage:
    """The steps that one denoiser takes, and what it reads."""

    family: Family  # with the pipeline's names
    steps: Steps
    prompts: tuple[Prompts, ...]  # for each text encoder
    branches: tuple[Branch, ...]
    time_ids: TimeIds
    guidance_scale: float
    denoiser: str
    controlnets: tuple[ControlNet, ...] = ()
    first_call: int = 0  # the calls of an earlier stage, which edited prompts count

    @property
    def schedule(self) -> Schedule:
        return self.steps.schedule

    @property
    def networks(self) -> tuple[str, ...]:
        """The ControlNets and the denoiser, in the order in which they run."""
        return (*(net.component for net in self.controlnets), self.denoiser)


def stage_of(
    request: Request, settings: Settings, size: Size, bundle: Bundle, task: Task | None = None
) -> Stage:
    """The stage of a bundle's own denoiser, without ControlNets. `size` is that of the generated
    image; `task` is the request's unless given.
    """
    family = bundle.family
    branches = branches_of(family.denoiser, settings.guidance_scale)
    return Stage(
        family=family,
        steps=settings.steps,
        prompts=_prompts(request, family.text, branches, settings.steps),
        branches=branches,
        time_ids=time_ids_of(request, size, family.denoiser, task),
        guidance_scale=settings.guidance_scale,
        denoiser=_denoiser(request, bundle),
    )


def refiner_stage(request: Request, settings: Settings, size: Size, bundle: Bundle) -> Stage | None:
    """The stage of a bundle's refiner, None if it takes no steps. Its settings are the request's;
    ControlNets are made for the bundle's own denoiser.
    """
    if bundle.refiner is None or settings.refiner_steps is None:
        return None
    require_supported(bundle.refiner.family)
    task: Task = "inpainting" if request.mask is not None else "image to image"
    stage = stage_of(replace(request, control={}), settings, size, bundle.refiner, task)
    return replace(
        stage,
        family=replace(stage.family, text=stage.family.text.renamed(names.of_refiner)),
        steps=settings.refiner_steps,
        denoiser=names.of_refiner(stage.denoiser),
        first_call=settings.steps.num_calls,
    )


def require_supported(family: Family) -> None:
    """BundleError for models that this version does not run."""
    if family.unsupported is not None:
        raise BundleError(
            f"the bundle's models have {family.unsupported}, which this version of sdrt does not "
            "run: use a newer sdrt"
        )


def _prompts(
    request: Request, text: TextRecipe, branches: tuple[Branch, ...], steps: Steps
) -> tuple[Prompts, ...]:
    """The texts of each encoder: the second one may have its own."""
    negative = "negative" in branches
    as_a1111 = request.prompt_syntax == "a1111"
    if request.negative_prompt is None and text.missing_negative == "encode":
        request = replace(request, negative_prompt="")
    first = Prompts(
        request.prompts,
        request.negative_prompts if negative else (),
        clip_skip=request.clip_skip or 0,
        negative_clip_skip=(request.clip_skip or 0) if as_a1111 else 0,
        syntax=request.prompt_syntax,
        num_steps=steps.num_inference_steps * steps.schedule.calls_per_step,
    )
    second = replace(
        first,
        positive=request.prompts_2,
        negative=request.negative_prompts_2 if negative else (),
        fields=(
            "prompt_2" if request.prompt_2 else "prompt",
            "negative_prompt_2" if request.negative_prompt_2 else "negative_prompt",
        ),
    )
    each = [second if i == 1 else first for i in range(len(text.encoders))]
    return tuple(
        replace(prompts, clip_skip=0, negative_clip_skip=0)
        if as_a1111 and encoder.has_own_layer
        else prompts
        for prompts, encoder in zip(each, text.encoders, strict=True)
    )


def _denoiser(request: Request, bundle: Bundle) -> str:
    return bundle.name_of("denoiser", *((RESIDUALS,) if request.controls else ()))
