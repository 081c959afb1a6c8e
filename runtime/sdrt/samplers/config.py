"""Schedules from a `scheduler_config.json` of diffusers, or from a scheduler's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdrt.errors import SamplerError
from sdrt.samplers.options import RESPACING, Options, check_known
from sdrt.samplers.schedule import Schedule, ScheduleRequest
from sdrt.samplers.schedulers import SCHEDULERS, Scheduler
from sdrt.scheduler_names import SHORT_NAMES, SUFFIXES, canonical_name, refusal_of, split_suffix


@dataclass(frozen=True)
class SamplerConfig:
    """A scheduler and its configuration.

    `given` is kept as written, with options that this scheduler does not have: another one may
    (`Other.from_config(scheduler.config)` in diffusers). `options` are those in effect: the given
    ones over the defaults of this scheduler. Two options belong to the model and apply to every
    scheduler, even if its class in diffusers does not have them: `rescale_betas_zero_snr` and every
    `beta_schedule`.
    """

    scheduler: str  # diffusers' class name
    given: Mapping[str, Any] = field(default_factory=dict)
    options: Options = field(init=False)

    def __post_init__(self) -> None:
        if self.scheduler not in SCHEDULERS:
            raise SamplerError(refusal_of(self.scheduler))
        check_known(self.given)
        entry = self._entry
        taken = {
            name: self.given[name]
            for name in self.given
            if name in (*entry.options, *_OF_THE_MODEL)
        }
        options = Options(**{**entry.options, **taken})
        if options.prediction_type not in entry.prediction_types:
            raise SamplerError(
                f"{self.scheduler} cannot use prediction_type {options.prediction_type!r}, "
                f"expected one of {', '.join(entry.prediction_types)}: choose another scheduler"
            )
        object.__setattr__(self, "options", options)

    @classmethod
    def from_diffusers(cls, config: Mapping[str, Any]) -> SamplerConfig:
        """The scheduler that a `scheduler_config.json` describes.

        Raises `SamplerError` for an unknown class, an option that no scheduler here knows, or a
        wrong value.
        """
        if not isinstance(config.get("_class_name"), str):
            raise SamplerError(
                "the scheduler's configuration has no _class_name, expected a class of diffusers"
            )
        given = {name: value for name, value in config.items() if not name.startswith("_")}
        return cls(config["_class_name"], given)

    def renamed(self, name: str) -> SamplerConfig:
        """Another scheduler for the same model, by any name that `canonical_name` reads.

        A class name keeps every given option. A short name selects a whole variant:
        `"dpmpp_2m"` has no Karras sigmas even if the configuration has, `"dpmpp_2m_karras"` has.
        """
        canonical = canonical_name(name)
        if canonical in SCHEDULERS:
            return SamplerConfig(canonical, self.given)
        stem, suffix = split_suffix(canonical)
        short = SHORT_NAMES[stem]
        chosen: dict[str, Any] = dict.fromkeys(RESPACING, False)
        if suffix:
            option = SUFFIXES[suffix].option
            if suffix not in short.suffixes:
                raise SamplerError(
                    f"scheduler {name!r} does not exist: {stem} has no {option}: use {stem!r}"
                )
            chosen[option] = SUFFIXES[suffix].value
        return SamplerConfig(short.scheduler, {**self.given, **chosen, **short.options})

    def corrected(self, corrections: Mapping[str, Any]) -> SamplerConfig:
        """The same scheduler with `corrections` over the given options.

        The pipelines of diffusers correct old configurations when they open; a model's family
        holds their corrections. An option that neither this scheduler nor the configuration has is
        left out. Raises `SamplerError` for one that no scheduler has.
        """
        check_known(corrections)
        known = self._entry.options.keys() | self.given.keys()
        taken = {name: value for name, value in corrections.items() if name in known}
        return SamplerConfig(self.scheduler, {**self.given, **taken})

    def schedule(
        self,
        num_inference_steps: int | None = None,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        eta: float = 0.0,
        *,
        use_clipped_model_output: bool = False,
        mu: float | None = None,
        strength: float = 1.0,
    ) -> Schedule:
        """The schedule and sampler for this many steps, or at these `timesteps` or `sigmas`.

        Raises `SamplerError` for steps that this scheduler cannot take.
        """
        request = ScheduleRequest(
            num_inference_steps,
            None if timesteps is None else tuple(timesteps),
            None if sigmas is None else tuple(sigmas),
            eta,
            use_clipped_model_output,
            mu,
            strength,
        )
        for name in ("timesteps", "sigmas", "eta", "mu"):
            if getattr(request, name) and not self.takes(name):
                takers = (other for other, known in SCHEDULERS.items() if name in known.takes)
                raise SamplerError(
                    f"{self.scheduler} takes no {name}: these schedulers do: {', '.join(takers)}"
                )
        return self._entry.schedule(self.options, request)

    def takes(self, name: str) -> bool:
        """True if this scheduler takes timesteps, sigmas, eta, mu or strength."""
        return name in self._entry.takes

    @property
    def short_name(self) -> str | None:
        """The short name that sets these options, if there is one."""
        for stem, short in SHORT_NAMES.items():
            if short.scheduler == self.scheduler and self._sets(short.options):
                return stem + self._suffix
        return None

    @property
    def _suffix(self) -> str:
        """The suffix of a short name for these sigmas, or ""."""
        return next(
            (
                suffix
                for suffix, each in SUFFIXES.items()
                if each.option in RESPACING and getattr(self.options, each.option)
            ),
            "",
        )

    def _sets(self, options: Mapping[str, Any]) -> bool:
        return all(getattr(self.options, name) == value for name, value in options.items())

    @property
    def beyond_diffusers(self) -> tuple[str, ...]:
        """The options that take effect here but that this class of diffusers does not have."""
        return tuple(
            name
            for name in _OF_THE_MODEL
            if getattr(self.options, name) and name not in self._entry.options
        )

    @property
    def _entry(self) -> Scheduler:
        return SCHEDULERS[self.scheduler]


_OF_THE_MODEL = ("rescale_betas_zero_snr",)
