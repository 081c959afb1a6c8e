"""One job from prompts and input images to images."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from sdrt.ask import Answer, Ask, Asks, Run, answered
from sdrt.denoising.conditioning import conditioning_from_text
from sdrt.denoising.controlnets import ControlChain
from sdrt.denoising.denoiser import Denoiser
from sdrt.denoising.noise import BatchNoise
from sdrt.denoising.start import Start, start_of
from sdrt.job import Job
from sdrt.notes import Note
from sdrt.result import Result, Step
from sdrt.samplers.protocol import Call
from sdrt.text.encoding import TokenizerOf, encode_prompts
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

    `run` answers the asks of previews, which a caller may want at any time.
    """

    def __init__(
        self, job: Job, signatures: Mapping[str, Signature], tokenizer_of: TokenizerOf, run: Run
    ) -> None:
        self.job = job
        self.clock = Clock()
        self._signatures, self._tokenizer_of, self._run = signatures, tokenizer_of, run
        self._noise = BatchNoise(job.seeds)
        self._notes = [*job.notes]
        self._ran_on = ""

    def add_note(self, note: Note) -> None:
        """Adds a note to the result."""
        self._notes.append(note)

    def events(self) -> Events:
        """Yields asks, which need answers, and steps; returns the result."""
        latents, images = yield from self._accounted(self._work())
        return Result(
            images=tuple(map(self.job.finish, images)),
            seeds=self.job.seeds,
            latents=latents,
            request=self.job.request,
            engine=self._ran_on,
            timings=self.clock.timings(),
            notes=tuple(self._notes),
            parameters=self.job.parameters,
        )

    def _work(self) -> _Work:
        job = self.job
        start = yield from start_of(job.start, job.schedule, self._draw, job.autoencoder)
        denoiser = yield from self._denoiser(start)
        latents = yield from self._denoise(denoiser, start)  # (B, C, h, w)
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
        return self._noise.normal(self.job.family.latents.shape_of(self.job.size))

    def _denoiser(self, start: Start) -> Asks[Denoiser]:
        """The denoiser with this job's text, guidance, control and mask."""
        job, request = self.job, self.job.request
        text = yield from encode_prompts(
            job.prompts, job.family.text, self._signatures, self._tokenizer_of
        )
        self._notes += text.notes
        signature = self._signatures[job.denoiser]
        conditioning = conditioning_from_text(
            text,
            job.family.denoiser,
            signature,
            branches=job.branches,
            size=job.size,
            guidance_scale=job.guidance_scale,
        )
        num_steps = len(job.schedule.timesteps) - start.index
        return Denoiser(
            job.denoiser,
            signature,
            conditioning,
            guidance_scale=job.guidance_scale,
            guidance_rescale=request.guidance_rescale,
            control=ControlChain(
                job.controlnets, conditioning, num_steps=num_steps, guess_mode=request.guess_mode
            ),
            extra=start.extra,
        )

    def _denoise(
        self, denoiser: Denoiser, start: Start
    ) -> Generator[Ask | Step, Answer | None, Array]:
        """Answers the sampler's calls with the model's predictions; returns the final latents."""
        schedule, num_calls = self.job.schedule, 0
        sampler = schedule.run(start.latents, self._draw, start.index)
        total = len(schedule.timesteps) - start.index
        event = next(sampler)
        while True:
            if isinstance(event, Call):
                call, reply = event, (yield from denoiser.predict(event, num_calls))
                prediction = reply
                num_calls += 1
            else:
                index, reply = event.index, event.latents
                if start.blend is not None:
                    reply = start.blend(reply, index)
                preview = partial(self._preview, call, prediction, index)
                yield Step(index - start.index, total, call.timestep, reply, preview)
            try:
                event = sampler.send(reply)
            except StopIteration as finished:
                latents: Array = finished.value
                return latents

    def _preview(self, call: Call, prediction: Array, index: int) -> Images:
        denoised = self.job.schedule.denoised(call.sample, prediction, index)
        return answered(self.job.autoencoder.decode(denoised), self._run)


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
