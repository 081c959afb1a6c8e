"""The steps of a request: the bundle's scheduler or another, corrected as the model needs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sdrt.bundle.folder import Bundle
from sdrt.denoising.forecast_plan import budgets_of, plan_of
from sdrt.denoising.forecasting import ForecastPlan
from sdrt.denoising.start import first_index
from sdrt.errors import RequestError
from sdrt.notes import Note
from sdrt.request import Request

if TYPE_CHECKING:
    from sdrt.samplers.config import SamplerConfig
    from sdrt.samplers.prediction import Level
    from sdrt.samplers.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of a request with one denoiser: the calls `first` to `stop`, without `stop`, of a
    schedule. `notes` are the differences from the images of diffusers' class, `forecast` says which
    calls the model does not answer.
    """

    sampler: str  # its short name, or its class if no short name sets its options
    schedule: Schedule
    num_inference_steps: int  # of the whole schedule, as diffusers counts
    num_train_timesteps: int
    first: int
    stop: int
    notes: tuple[Note, ...]
    is_custom: bool = False  # not spaced, or not sampled, as the sampler's name says
    forecast: ForecastPlan | None = None

    def __post_init__(self) -> None:
        self.schedule.require_start(self.first)

    @property
    def num_calls(self) -> int:
        return self.stop - self.first

    @property
    def calls(self) -> Sequence[Level]:
        """The noise level of each call."""
        return self.schedule.calls[self.first : self.stop]

    def before(self, share: float) -> Steps:
        """Those before a share of the schedule: diffusers' `denoising_end`. RequestError if it
        leaves none."""
        stop = int((self.schedule.timesteps >= self._cutoff(share)).sum())
        if stop <= self.first:
            raise _no_step_left(share, "the bundle's own UNet", "larger")
        return replace(self, stop=stop)

    def after(self, share: float) -> Steps:
        """Those after a share: diffusers' `denoising_start`. If it ends in the middle of a step,
        that step is among them. RequestError if it leaves none."""
        num_calls = int((self.schedule.timesteps < self._cutoff(share)).sum())
        if self.schedule.calls_per_step == 2 and num_calls % 2 == 0:
            num_calls += 1  # the last step has one call
        if num_calls == 0:
            raise _no_step_left(share, "the refiner", "smaller")
        return replace(self, first=self.stop - num_calls)

    @property
    def is_whole(self) -> bool:
        """True for the whole schedule, spaced and sampled as the sampler's name says."""
        return self.num_calls == len(self.schedule.timesteps) and not self.is_custom

    def with_forecast(self, budget: int, guidance_scale: float) -> Steps:
        """The same with forecasts for all but `budget` calls."""
        plan = plan_of(self.sampler, self.num_calls, budget, guidance_scale, whole=self.is_whole)
        return replace(self, forecast=plan)

    def _cutoff(self, share: float) -> int:
        return round(self.num_train_timesteps - share * self.num_train_timesteps)


def _no_step_left(share: float, whose: str, way_out: str) -> RequestError:
    return RequestError(
        f"refiner_start: got {share:g}, which leaves no step to {whose}: give a {way_out} number, "
        "more steps, or 1 to leave the refiner out"
    )


def steps_of(request: Request, strength: float, bundle: Bundle) -> Steps:
    """The steps of a request with an image of this strength, or with strength 1 without one.

    Raises `SamplerError` for an impossible schedule, `RequestError` if no step is left.
    """
    corrections = dict(bundle.family.scheduler)
    if request.mask is not None:
        corrections |= bundle.family.inpainting_scheduler
    theirs = _their_scheduler(request, corrections, bundle)
    ours = theirs.corrected(corrections)
    custom = request.timesteps is not None or request.sigmas is not None
    spaced_again = not custom and _spaces_again(request, ours, bundle)
    schedule = ours.schedule(
        num_inference_steps=None if custom else _num_steps(request, bundle),
        timesteps=request.timesteps,
        sigmas=request.sigmas,
        eta=request.eta,
        strength=strength if spaced_again else 1.0,
    )
    num_steps = len(schedule.steps) if custom else _num_steps(request, bundle)
    return Steps(
        sampler=ours.short_name or ours.scheduler,
        schedule=schedule,
        num_inference_steps=num_steps,
        num_train_timesteps=ours.options.num_train_timesteps,
        first=0 if spaced_again else _first(schedule, num_steps, strength),
        stop=len(schedule.timesteps),
        notes=tuple(_differences(theirs, ours, corrections)),
        is_custom=custom or request.eta > 0 or ours.options.use_lu_lambdas,
    )


def with_forecasts(
    budget: int | None, guidance_scale: float, steps: Steps, refiner_steps: Steps | None
) -> tuple[Steps, Steps | None]:
    """The steps with the plans of forecasts for all but `budget` calls. RequestError for a budget
    that the sampler cannot keep."""
    if budget is None:
        return steps, refiner_steps
    stages = [steps] if refiner_steps is None else [steps, refiner_steps]
    budgets = budgets_of(budget, steps.sampler, [each.num_calls for each in stages])
    planned = [
        each.with_forecast(budget, guidance_scale)
        for each, budget in zip(stages, budgets, strict=True)
    ]
    return planned[0], planned[1] if len(planned) == 2 else None


def _their_scheduler(
    request: Request, corrections: Mapping[str, Any], bundle: Bundle
) -> SamplerConfig:
    """As in diffusers: the pipeline corrects its scheduler, and others take that configuration."""
    from sdrt.samplers.config import SamplerConfig  # all samplers: a tenth of `import sdrt`

    own = SamplerConfig.from_diffusers(bundle.scheduler_config).corrected(corrections)
    return own if request.scheduler is None else own.renamed(request.scheduler)


def _num_steps(request: Request, bundle: Bundle) -> int:
    if request.num_inference_steps is not None:
        return request.num_inference_steps
    default: int = bundle.defaults_for(request.task)["num_inference_steps"]
    return default


def _spaces_again(request: Request, scheduler: SamplerConfig, bundle: Bundle) -> bool:
    """True if all steps are spaced again below an image's strength. Inpainting leaves out steps: it
    has one pipeline for all models in diffusers."""
    return (
        request.image is not None
        and request.mask_image is None
        and bundle.family.image_timesteps == "spaced again"
        and scheduler.takes("strength")
    )


def _first(schedule: Schedule, num_steps: int, strength: float) -> int:
    if int(num_steps * strength) < 1:
        raise RequestError(
            f"strength: got {strength:g}, which runs none of the {num_steps} steps: give at least "
            f"{math.ceil(1000 / num_steps) / 1000:g}, or more steps"
        )
    return first_index(schedule, num_steps, strength)


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
