"""What a product imports: a bundle on a target, called with a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike
from types import TracebackType
from typing import Any, Self

from sdrt.bundle import Bundle
from sdrt.engines import Engines
from sdrt.generation import Generation
from sdrt.request import Request
from sdrt.resolving import resolved
from sdrt.result import Result, Stream
from sdrt.samplers import Plan, SamplerConfig
from sdrt.tokenizer import ClipTokenizer
from sdrt_engines import Engine, Resolution, resolve_target


class Pipeline:
    """A bundle on a target. May be called from several threads at once: a request holds its own
    state.
    """

    def __init__(
        self, bundle: Bundle, resolution: Resolution, engines: Mapping[str, Engine] | None = None
    ) -> None:
        """``engines`` take the place of the bundle's own, by the component's name."""
        self.bundle = bundle
        self.target = resolution.target
        self.refusals = resolution.refusals  # what "auto" tried before, and why it did not open
        self._engines = Engines(bundle, resolution.target, engines)

    @classmethod
    def open(cls, bundle: str | PathLike[str], target: str = "auto") -> Pipeline:
        """Opens a bundle folder, or ``"demo"``; its engines are loaded when a request first needs
        them.

        Raises ``BundleError`` for a missing or broken bundle, ``TargetError`` for a target that
        does not open.
        """
        return cls(Bundle.open(bundle), resolve_target(target))

    def __call__(self, prompt: str | Sequence[str] | Request, **keywords: Any) -> Result:
        """The images of a prompt; ``keywords`` are the fields of ``Request``."""
        stream = self.stream(prompt, **keywords)
        for _ in stream:
            pass
        return stream.result

    def stream(self, prompt: str | Sequence[str] | Request, **keywords: Any) -> Stream:
        """The same, step by step; no network runs before the first step is taken."""
        request = prompt if isinstance(prompt, Request) else Request.from_keywords(prompt, keywords)
        request = self.resolve(request)
        generation = Generation(self._engines, self._tokenizer, request, self._plan(request))
        return Stream(generation.steps())

    def resolve(self, request: Request) -> Request:
        """The request with each ``None`` replaced by what will be used; refuses what this bundle
        can't do.
        """
        return resolved(request, self.bundle)

    def close(self) -> None:
        """Closes every engine that was opened."""
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

    @cached_property
    def _tokenizer(self) -> ClipTokenizer:
        return ClipTokenizer.open(self.bundle.tokenizer_folder)

    def _plan(self, request: Request) -> Plan:
        config = SamplerConfig.from_diffusers(self.bundle.scheduler_config)
        if request.scheduler is not None:
            config = config.renamed(request.scheduler)
        return config.corrected(inpainting=request.mask is not None).plan(
            num_inference_steps=request.num_inference_steps,
            timesteps=request.timesteps,
            sigmas=request.sigmas,
            eta=request.eta,
        )
