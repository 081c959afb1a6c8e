"""What a product imports: a bundle on a target, called with a prompt."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from functools import cached_property
from os import PathLike
from types import TracebackType
from typing import Any, Self

from sdrt.bundle.folder import Bundle
from sdrt.errors import NonFiniteError, SdrtError
from sdrt.generation import Generation
from sdrt.request import Request
from sdrt.resolving import resolved
from sdrt.result import Result, Step, Stream
from sdrt.samplers import SamplerConfig, Schedule
from sdrt.targets.engines import Engines, resolve
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt_engines import Engine, EngineError, Refusal, Resolution, Target


class Pipeline:
    """A bundle on a target. May be called from several threads at once: a request holds its own
    state.
    """

    def __init__(
        self, bundle: Bundle, resolution: Resolution, engines: Mapping[str, Engine] | None = None
    ) -> None:
        """``engines`` take the place of the bundle's own, by the component's name."""
        self.bundle = bundle
        self._resolution = resolution
        self._engines = Engines(bundle, resolution.target, engines)
        self._changing = threading.Lock()
        self._closed = False

    @classmethod
    def open(cls, bundle: str | PathLike[str], target: str = "auto") -> Pipeline:
        """Opens a bundle folder, or ``"demo"``; its engines are loaded when a request first needs
        them.

        Under "auto" a request whose target fails is run again on the next fastest, and so are
        those that follow it. Raises ``BundleError`` for a missing or broken bundle, ``TargetError``
        for a target that does not open.
        """
        opened = Bundle.open(bundle)
        return cls(opened, resolve(opened, target))

    @property
    def target(self) -> Target:
        """Where it runs now."""
        return self._resolution.target

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """What "auto" tried before, and why it did not open or how it failed."""
        return self._resolution.refusals + self._resolution.failures

    def __call__(self, prompt: str | Sequence[str] | Request, **keywords: Any) -> Result:
        """The images of a prompt; ``keywords`` are the fields of ``Request``."""
        stream = self.stream(prompt, **keywords)
        for _ in stream:
            pass
        return stream.result

    def stream(self, prompt: str | Sequence[str] | Request, **keywords: Any) -> Stream:
        """The same, step by step; no network runs before the first step is taken.

        The steps begin again at 0 where "auto" goes on with another target.
        """
        request = prompt if isinstance(prompt, Request) else Request.from_keywords(prompt, keywords)
        generation = self._generation(self.resolve(request))
        return Stream(self._steps(generation))

    def resolve(self, request: Request) -> Request:
        """The request with each ``None`` replaced by what will be used; refuses what this bundle
        can't do.
        """
        return resolved(request, self.bundle)

    def close(self) -> None:
        """Closes every engine that was opened."""
        with self._changing:
            self._closed = True
        self._engines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _steps(self, generation: Generation) -> Generator[Step, None, Result]:
        while True:
            try:
                return (yield from generation.steps())
            except (EngineError, NonFiniteError) as error:
                self._fall_back(generation.engines, error)
                generation = self._generation(generation.request)

    def _fall_back(self, failed: Engines, error: SdrtError) -> None:
        """Takes the next target, unless another request has done so already; raises ``error`` where
        there is none.
        """
        with self._changing:
            if self._closed:
                raise error
            if self._engines is not failed:
                return
            self._resolution = self._resolution.after(error)
            self._engines = Engines(self.bundle, self._resolution.target)
        failed.close()  # waits for what others run on it

    def _generation(self, request: Request) -> Generation:
        with self._changing:
            engines, told = self._engines, str(self._resolution)
        return Generation(engines, self._tokenizer, request, self._schedule(request), told)

    @cached_property
    def _tokenizer(self) -> ClipTokenizer:
        return ClipTokenizer.open(self.bundle.tokenizer_folder())

    def _schedule(self, request: Request) -> Schedule:
        config = SamplerConfig.from_diffusers(self.bundle.scheduler_config)
        if request.scheduler is not None:
            config = config.renamed(request.scheduler)
        family = self.bundle.family
        corrections = {**family.scheduler, **(family.inpainting_scheduler if request.mask else {})}
        return config.corrected(corrections).schedule(
            num_inference_steps=request.num_inference_steps,
            timesteps=request.timesteps,
            sigmas=request.sigmas,
            eta=request.eta,
        )
