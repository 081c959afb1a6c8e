"""One job from prompts and input images to images."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from sdrt.ask import Answer, Ask, Asks, Run, answered
from sdrt.denoising.forecasting import Forecaster
from sdrt.denoising.noise import BatchNoise
from sdrt.denoising.start import Start, start_of, start_of_refiner
from sdrt.job import Job
from sdrt.notes import Note
from sdrt.result import Result, Step
from sdrt.samplers.protocol import Call
from sdrt.stage import Stage
from sdrt.stage_model import StageModel
from sdrt.text.encoding import EncodedPrompts, encode_prompts
from sdrt.text.prompts import TokenizerOf, read_prompts
from sdrt.text.text_cache import TextCache
from sdrt.text.versions import ReadPrompts
from sdrt.timings import Clock
from sdrt_engines import Array, Signature

if TYPE_CHECKING:
    from PIL.Image import Image

Images: TypeAlias = "tuple[Image, ...]"
# Yields asks and steps, is sent an answer for an ask and None for a step, returns the result.
Events: TypeAlias = Generator[Ask | Step, Answer | None, Result]
_Work: TypeAlias = Generator[Ask | Step, Answer | None, tuple[Array, Images]]


class Generation:
    """A job with all of its state. It asks for each network's run without knowing the engines.

    `run` answers the asks of previews, which a caller may want at any time. RequestError for
    prompts that cannot be encoded.
    """

    def __init__(
        self,
        job: Job,
        signatures: Mapping[str, Signature],
        tokenizer_of: TokenizerOf,
        run: Run,
        texts: TextCache,
    ) -> None:
        self.job = job
        self.clock = Clock()
        self._signatures, self._run, self._texts = signatures, run, texts
        self._noise = BatchNoise(job.seeds)
        self._prompts = {
            stage: _prompts_of(stage, signatures, tokenizer_of)
            for stage in filter(None, (job.base, job.refiner))
        }
        of_prompts = (note for prompts in self._prompts.values() for note in prompts.notes)
        self._notes = list(dict.fromkeys((*job.notes, *of_prompts)))
        self._ran_on, self._num_steps = "", 0
        self._forecasters: list[Forecaster] = []

    def add_note(self, note: Note) -> None:
        """Adds a note to the result."""
        self._notes.append(note)

    def events(self) -> Events:
        """Yields asks, which need answers, and steps; returns the result."""
        latents, images = yield from self._accounted(self._work())
        num_forecasts = self._num_forecasts()
        return Result(
            images=tuple(map(self.job.finish, images)),
            seeds=self.job.seeds,
            latents=latents,
            request=self.job.request,
            engine=self._ran_on,
            timings=self.clock.timings(),
            notes=tuple(self._notes),
            parameters=self.job.parameters,
            num_calls=tuple(self.job.num_calls - count for count in num_forecasts),
            num_forecasts=num_forecasts,
        )

    def _num_forecasts(self) -> tuple[int, ...]:
        """The forecasts of each image, in all stages."""
        of_stages = [forecaster.num_forecasts for forecaster in self._forecasters]
        return tuple(map(sum, zip(*of_stages, strict=True))) or (0,) * len(self.job.seeds)

    def _work(self) -> _Work:
        job = self.job
        start = yield from start_of(job.start, job.base.schedule, self._draw, job.autoencoder)
        latents = yield from self._denoised(job.base, start)  # (B, C, h, w)
        if job.refiner is not None:
            latents = yield from self._denoised(job.refiner, self._handover(job.refiner, latents))
        images = yield from job.autoencoder.decode(latents)
        return latents, images

    def _accounted(self, work: _Work) -> _Work:
        """Relays events; measures the seconds of the answers and of the caller."""
        answer: Answer | None = None
        while True:
            try:
                event = work.send(answer)
            except StopIteration as finished:
                value: tuple[Array, Images] = finished.value
                return value
            if isinstance(event, Ask):
                answer = yield event
                assert answer is not None, "an ask is sent its answer"
                self.clock.add(answer.seconds)
                self._ran_on = answer.ran_on
            else:
                with self.clock.of_the_caller():
                    answer = yield event

    def _draw(self) -> Array:
        """The next noise of every image's stream, (B, C, h, w)."""
        return self._noise.normal(self.job.base.family.latents.shape_of(self.job.size))

    def _handover(self, refiner: Stage, latents: Array) -> Start:
        steps, job = refiner.steps, self.job
        return start_of_refiner(
            job.start, latents, steps.schedule, steps.first, self._draw, job.autoencoder
        )

    def _denoised(self, stage: Stage, start: Start) -> Generator[Ask | Step, Answer | None, Array]:
        """Answers the sampler's calls with the model's predictions; returns the last latents."""
        text = yield from encode_prompts(self._prompts[stage], self._texts)
        predict = self._predictor(stage, start, text)
        stop, num_calls = stage.steps.stop, 0
        sampler = stage.schedule.run(start.latents, self._draw, start.index, stop)
        event = next(sampler)
        while True:
            if isinstance(event, Call):
                call, reply = event, (yield from predict(event, num_calls))
                prediction = reply
                num_calls += 1
            else:
                index, reply = event.index, event.latents
                if start.blend is not None:
                    reply = start.blend(reply, index + 1 if index + 1 < stop else None)
                preview = partial(self._preview, stage, call, prediction, index)
                yield Step(self._num_steps, self.job.num_calls, call.timestep, reply, preview)
                self._num_steps += 1
            try:
                event = sampler.send(reply)
            except StopIteration as finished:
                latents: Array = finished.value
                return latents

    def _predictor(
        self, stage: Stage, start: Start, text: EncodedPrompts
    ) -> Callable[[Call, int], Asks[Array]]:
        """Answers the calls of a stage: the model, or forecasts of it in between."""
        model = StageModel(
            stage,
            self.job.request,
            self._signatures[stage.denoiser],
            text,
            num_calls=self.job.num_calls,
            extra=start.extra,
        )
        if stage.steps.forecast is None:
            return model.predict
        forecaster = Forecaster(stage.steps.forecast, stage.steps.calls, len(self.job.seeds), model)
        self._forecasters.append(forecaster)
        return forecaster.predict

    def _preview(self, stage: Stage, call: Call, prediction: Array, index: int) -> Images:
        denoised = stage.schedule.denoised(call.sample, prediction, index)
        return answered(self.job.preview.decode(denoised), self._run)


def _prompts_of(
    stage: Stage, signatures: Mapping[str, Signature], tokenizer_of: TokenizerOf
) -> ReadPrompts:
    prompts = read_prompts(stage.prompts, stage.family.text, signatures, tokenizer_of)
    prompts.require_fitting(signatures[stage.denoiser])
    return prompts


def run_alone(events: Events, run: Run) -> Generator[Step, None, Result]:
    """The steps of one generation; `run` answers its asks one by one."""
    answer: Answer | None = None
    while True:
        try:
            event = events.send(answer)
        except StopIteration as finished:
            result: Result = finished.value
            return result
        if isinstance(event, Ask):
            answer = run(event)
        else:
            yield event
            answer = None
