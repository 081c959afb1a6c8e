"""The schedule of a request: the bundle's scheduler or another, corrected as the model needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sdrt.bundle.folder import Bundle
from sdrt.notes import Note
from sdrt.request import Request
from sdrt.resolving import Settings

if TYPE_CHECKING:
    from sdrt.samplers.config import SamplerConfig
    from sdrt.samplers.schedule import Schedule


def schedule_of(
    request: Request, settings: Settings, bundle: Bundle
) -> tuple[Schedule, tuple[Note, ...]]:
    """The schedule, with notes on differences from the images of diffusers' class.

    Raises `SamplerError` for an impossible schedule.
    """
    from sdrt.samplers.config import SamplerConfig  # all samplers: a tenth of `import sdrt`

    corrections = dict(bundle.family.scheduler)
    if request.mask is not None:
        corrections |= bundle.family.inpainting_scheduler
    # As in diffusers: the pipeline corrects its scheduler, and others take that configuration.
    theirs = SamplerConfig.from_diffusers(bundle.scheduler_config).corrected(corrections)
    if request.scheduler is not None:
        theirs = theirs.renamed(request.scheduler)
    ours = theirs.corrected(corrections)
    schedule = ours.schedule(
        num_inference_steps=settings.num_inference_steps,
        timesteps=request.timesteps,
        sigmas=request.sigmas,
        eta=request.eta,
    )
    return schedule, tuple(_differences(theirs, ours, corrections))


def _differences(
    theirs: SamplerConfig, ours: SamplerConfig, corrections: Mapping[str, Any]
) -> Iterator[Note]:
    for option in corrections:
        kept, replaced = getattr(ours.options, option), getattr(theirs.options, option)
        if kept != replaced:
            yield _note(
                f"{ours.scheduler} runs with {option} {kept}, as the model requires; "
                f"diffusers' from_config sets {replaced}, so its images differ from these"
            )
    for option in ours.beyond_diffusers:
        yield _note(
            f"{ours.scheduler} uses {option}, as the model requires; diffusers' class "
            "ignores it, so its images differ from these"
        )


def _note(message: str) -> Note:
    return Note("scheduler_differs", "scheduler", f"scheduler: {message}")
