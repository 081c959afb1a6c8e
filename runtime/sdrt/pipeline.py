"""The main object for products: a bundle on a target, called with a prompt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import NoReturn, Self, TypeVar, Unpack

from sdrt.ask import Answer, Ask
from sdrt.bundle.folder import Bundle
from sdrt.bundle.tokenizers import Tokenizers
from sdrt.errors import NonFiniteError, SdrtError
from sdrt.generation import Generation, run_alone
from sdrt.job import Job, job_from_request
from sdrt.memory import (
    BY_STAGE,
    fits_on_any,
    fitting,
    forecast_of_work,
    memory_for,
    note_on_stages,
    require_fitting,
)
from sdrt.notes import warn_of_notes
from sdrt.parameters import PARAMETER, Speed
from sdrt.request import Request, RequestOptions, request_from
from sdrt.resolving import settings_of
from sdrt.result import Result, Step, Stream
from sdrt.shown_options import showing_options
from sdrt.stopping import Stop
from sdrt.targets.auto import warn_if_slower
from sdrt.targets.engines import Engines
from sdrt.targets.forecast import Forecast, Work
from sdrt.targets.int8 import notes_on_int8
from sdrt.targets.lifetimes import Lifetimes
from sdrt.targets.parts import answer_in_parts
from sdrt.targets.resolving import resolve
from sdrt.text.text_cache import MAX_BYTES, TextCache
from sdrt.warm_up import requests_of_sizes
from sdrt_engines import Engine, EngineError, OutOfMemoryError, Refusal, Resolution, Target
from sdrt_engines.forks import Inherited
from sdrt_engines.time_limit import held

T = TypeVar("T")


class Pipeline(Inherited):
    """A bundle on a target: call it with a prompt to generate images. May be called from several
    threads at once: each request has its own state. A forked process loads engines of its own.
    """

    def __init__(
        self,
        bundle: Bundle,
        resolution: Resolution,
        engines: Mapping[str, Engine] | None = None,
        text_cache: int = MAX_BYTES,
        *,
        low_memory: bool = False,
        speed: Speed = "exact",
    ) -> None:
        """`engines` replace the bundle's own, by component name; `text_cache` and `low_memory` as
        in `open`, `speed` is that of requests without their own."""
        super().__init__()
        self.bundle = bundle
        self.speed = speed
        self._resolution = resolution
        self._engines = Engines(bundle, resolution, engines, low_memory=low_memory)
        self._signatures = {
            name: component.signature for name, component in bundle.components.items()
        } | {name: engine.signature for name, engine in (engines or {}).items()}
        self._tokenizer = Tokenizers(bundle)
        self._texts = TextCache(text_cache)
        self._changing = threading.Lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        bundle: str | PathLike[str],
        target: str = "auto",
        num_threads: int | None = None,
        refiner: str | PathLike[str] | None = None,
        text_cache: int = MAX_BYTES,
        low_memory: bool = False,
        speed: Speed = "exact",
    ) -> Pipeline:
        """Opens a bundle folder, or `"demo"`; engines are loaded when a request first needs them.

        Under "auto" a request whose target fails continues on the next fastest, as do later
        requests. `num_threads` is for targets on the CPU, which by default use every physical core,
        or under "auto" as many as `sdrt tune` found best. `refiner` is a second bundle on the same
        target: it takes the last steps of each image, from `refiner_start` on. `text_cache` bounds
        the bytes that are kept of recent prompts, which are not encoded again; 0 keeps none. With
        `low_memory` each request opens a network when it needs it and closes it after that, so that
        it takes little more memory than its largest network. `speed` is that of requests without
        their own; "balanced" and "fast" let "auto" take a lower precision that `sdrt tune` found
        faster. Warns if `sdrt tune` found the target slower than the same one in float32. Raises
        `BundleError` for a missing or broken bundle or a refiner of other latents, `TargetError`
        for a target that does not open or cannot use `num_threads`.
        """
        PARAMETER["speed"].kind.checked("speed", speed)
        opened = Bundle.open(bundle)
        if refiner is not None:
            opened = opened.refined_by(Bundle.open(refiner))
        resolution = resolve(opened, target, num_threads=num_threads, speed=speed)
        warn_if_slower(opened, resolution.target)
        return cls(opened, resolution, text_cache=text_cache, low_memory=low_memory, speed=speed)

    @property
    def target(self) -> Target:
        """The target that runs now; a fallback changes it."""
        return self._resolution.target

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """The targets that "auto" tried before, with the reasons why they do not run."""
        return self._resolution.refusals + self._resolution.failures

    @showing_options
    def __call__(
        self,
        prompt: str | Sequence[str] | Request,
        *,
        deadline: float | None = None,
        last: bool = False,
        **options: Unpack[RequestOptions],
    ) -> Result:
        """Generates the images of a prompt, or of a request whose fields `options` replace.

        Raises `DeadlineExceeded` if they are not ready after `deadline` seconds. `last` is for a
        pipeline that gets no further request: it closes each network after its last use. Issues one
        `NoteWarning` with the notes of the result, if it has any.
        """
        stream = self.stream(prompt, deadline=deadline, last=last, **options)
        for _ in stream:
            pass
        warn_of_notes(stream.result.notes)
        return stream.result

    @showing_options
    def stream(
        self,
        prompt: str | Sequence[str] | Request,
        *,
        deadline: float | None = None,
        last: bool = False,
        **options: Unpack[RequestOptions],
    ) -> Stream:
        """Generates images step by step; after the last step `stream.result` holds them.

        No network runs before the first step is taken; the seconds until `deadline` count from
        there. Break out of the loop to cancel. If "auto" changes to another target, the failed step
        is repeated there. `last` as in a call. Does not warn of the notes in `stream.result.notes`.
        """
        stop = Stop(deadline)
        generation = self.generation(request_from(prompt, options))
        return Stream(self._steps(generation, stop, last=last), stop)

    def warm_up(
        self,
        sizes: Sequence[tuple[int, int]] | None = None,
        batch: int = 1,
        **options: Unpack[RequestOptions],
    ) -> None:
        """Opens every network that requests for images of these sizes need and runs it, so that the
        first such request takes as long as the second.

        `sizes` are pairs (height, width), by default the bundle's own; `batch` is the number of
        images. `options` decide which networks run: `image`, `mask_image`, `control`, `vae`,
        `guidance_scale`. Takes two steps for each size. Raises the errors of a call, at once.
        """
        if self._engines.low_memory:
            raise SdrtError("warm_up: low_memory keeps no network open: leave out one of them")
        requests = requests_of_sizes(sizes, batch, options, self.bundle)
        for stream in [self.stream(request) for request in requests]:
            for _ in stream:
                pass
            warn_of_notes([note for note in stream.result.notes if note.code == BY_STAGE])

    def resolve(self, request: Request) -> Request:
        """The request with each `None` replaced by the value in use, except `vae_tiling`, which
        memory decides when it runs. Raises `RequestError` if this bundle cannot run it.
        """
        return settings_of(self._with_speed(request), self.bundle).applied_to(request)

    def forecast(self, request: Request) -> Forecast:
        """The memory that the request will need on this target. `stream` refuses a request that
        does not fit, before any network runs."""
        job = self._job(request, partial(fitting, engines=self._engines))
        return forecast_of_work(job.work, self._engines)

    def generation(self, request: Request) -> Generation:
        """The generation of a request, for another driver of its networks: `evaluate` answers its
        asks."""
        choose = partial(require_fitting, engines=self._engines, others=self._resolution.others)
        job = self._job(request, choose)
        return Generation(job, self._signatures, self._tokenizer, self._answer, self._texts)

    @property
    def engines(self) -> Engines:
        """The engines of the current target."""
        return self._engines

    def close(self) -> None:
        """Closes every open engine."""
        with self._changing:
            self._closed = True
        self._engines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _job(self, request: Request, choose: Callable[[Sequence[Work]], Work]) -> Job:
        return job_from_request(self._with_speed(request), self.bundle, self._signatures, choose)

    def _with_speed(self, request: Request) -> Request:
        return replace(request, speed=request.speed or self.speed)

    def _steps(
        self, generation: Generation, stop: Stop, *, last: bool
    ) -> Generator[Step, None, Result]:
        job, low_memory = generation.job, self._engines.low_memory
        networks = Lifetimes(job.components, job.base.networks, last=last)

        def run(ask: Ask) -> Answer:
            answer = answer_in_parts if forecast.by_stage else networks.answer
            with stop.watching(lambda: self._engines.work_on(ask)):
                return self._with_fallback(lambda engines: answer(ask, engines))

        events = generation.events()
        generation.clock.start()  # the caller may have waited before the first step
        stop.start()
        with self._memory_for(job.work) as forecast, closing(networks):
            if forecast.by_stage and not low_memory:
                generation.add_note(note_on_stages(forecast))
            for note in notes_on_int8(self.bundle, self.target, job.components):
                generation.add_note(note)
            result = yield from run_alone(events, run)
            if low_memory:
                self._engines.close_unused(self.bundle.components)
            return result

    @contextmanager
    def _memory_for(self, work: Work) -> Iterator[Forecast]:
        """Memory for a request on this target, or under "auto" on a later one that needs less."""
        with ExitStack() as grant:
            while True:
                engines = self._engines
                try:
                    forecast = grant.enter_context(memory_for(work, engines))
                    break
                except OutOfMemoryError as error:
                    if not fits_on_any(self._resolution.others, work, engines):
                        raise
                    self._fall_back(engines, error)
            yield forecast

    def _answer(self, ask: Ask) -> Answer:
        return self._with_fallback(lambda engines: answer_in_parts(ask, engines))

    def _with_fallback(self, use: Callable[[Engines], T]) -> T:
        """The result of `use` with the engines; if they fail, with those of the next target."""
        while True:
            engines = self._engines
            try:
                return use(engines)
            except (EngineError, NonFiniteError) as error:
                self._fall_back(engines, error)

    def _fall_back(self, failed: Engines, error: SdrtError) -> None:
        """Takes the next target, unless another request has; raises `error` if it was the last."""
        with held(self._changing):
            if self._closed:
                raise error
            if self._engines is not failed:
                return
            resolution = self._resolution.after(error)
            try:
                failed.give_up()  # first: the next target may need the memory
            finally:
                self._resolution = resolution
                self._engines = Engines(self.bundle, resolution, low_memory=failed.low_memory)
                self._texts = TextCache(self._texts.max_bytes)

    def _begin_in_child(self) -> None:
        self._changing = threading.Lock()
        self._texts = TextCache(self._texts.max_bytes)

    def __reduce__(self) -> NoReturn:
        raise SdrtError(
            "a pipeline cannot be pickled: open it in each process, Pipeline.open(path, target)"
        )
