"""From a request to images: encode the prompts, denoise, decode."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from sdrt import tensor_names as names
from sdrt.bundle import Bundle
from sdrt.errors import NonFiniteError, RequestError
from sdrt.guidance import guidance_scale_embedding, guide
from sdrt.noise import BatchNoise
from sdrt.request import Request
from sdrt.result import Result, Step, Stream, Timings
from sdrt.samplers import Call, Plan, Sampler, SamplerConfig
from sdrt.text_encoding import embed_prompts
from sdrt.tokenizer import ClipTokenizer
from sdrt_engines import Engine, Resolution, TensorSpec, resolve_target

if TYPE_CHECKING:
    from PIL.Image import Image

Array = npt.NDArray[np.float32]
Predict = Callable[[Call], Array]

_MAX_RANDOM_SEED = 2**32  # torch's CPU generator uses the low 32 bits alone


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
        self._engines = dict(engines or {})
        self._tokenizer: ClipTokenizer | None = None
        self._loading = threading.RLock()

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
        """The same, step by step; nothing is computed before the first step is taken."""
        request = prompt if isinstance(prompt, Request) else Request.from_keywords(prompt, keywords)
        request = self.resolve(request)
        return Stream(self._generate(request, self._plan(request)))

    def resolve(self, request: Request) -> Request:
        """The request with each ``None`` replaced by what will be used; refuses what this bundle
        can't do.
        """
        defaults = self.bundle.manifest.defaults
        sample_size = self.bundle.sample_size * self.bundle.vae_scale_factor
        resolved = replace(
            request,
            height=_first(request.height, sample_size),
            width=_first(request.width, sample_size),
            num_inference_steps=_num_steps(request, defaults),
            guidance_scale=_first(request.guidance_scale, defaults.get("guidance_scale"), 7.5),
            seed=_first(request.seed, secrets.randbelow(_MAX_RANDOM_SEED)),
        )
        for side in ("height", "width"):
            value, factor = getattr(resolved, side), self.bundle.vae_scale_factor
            if value % factor:
                below, above = value // factor * factor, (value // factor + 1) * factor
                raise RequestError(
                    f"{side}: got {value}, expected a multiple of {factor}, such as "
                    f"{max(below, factor)} or {above}"
                )
        return resolved

    def close(self) -> None:
        """Closes every engine that was opened."""
        with self._loading:
            for engine in self._engines.values():
                engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _generate(self, request: Request, plan: Plan) -> Generator[Step, None, Result]:
        clock = _Clock()
        seeds = tuple(_seed(request) + i for i in range(request.num_images))
        noise = BatchNoise(seeds)
        shape = self._latent_shape(request)

        with clock("loading"):
            for name in (names.TEXT_ENCODER, names.UNET, names.VAE_DECODER):
                self._engine(name)
        predict = self._predictor(request, clock)
        latents = noise.normal(shape) * plan.init_noise_sigma  # (B, C, h, w)
        sampler = plan.run(latents, lambda: noise.normal(shape))
        latents = yield from self._denoise(plan, sampler, predict, clock)
        images = self._decode(latents, clock)

        return Result(
            images=images,
            seeds=seeds,
            latents=latents,
            request=request,
            engine=str(self.target),
            timings=clock.timings(),
        )

    def _denoise(
        self, plan: Plan, sampler: Sampler, predict: Predict, clock: _Clock
    ) -> Generator[Step, None, Array]:
        """Answers the sampler's calls with the model's predictions; its value is the final
        latents."""
        event = next(sampler)
        while True:
            if isinstance(event, Call):
                call, prediction = event, predict(event)
                answer = prediction
            else:
                index, answer = event.index, event.latents
                preview = partial(self._preview, plan, call, prediction, index)
                with clock("caller"):
                    yield Step(index, len(plan.timesteps), call.timestep, answer, preview)
            try:
                event = sampler.send(answer)
            except StopIteration as finished:
                latents: Array = finished.value
                return latents

    def _predictor(self, request: Request, clock: _Clock) -> Predict:
        """The UNet with this request's text and guidance, as a function of the sampler's call."""
        unet = self._engine(names.UNET)
        inputs = {spec.name: spec for spec in unet.signature.inputs}
        scale = request.guidance_scale
        assert scale is not None  # resolved
        distilled = names.TIMESTEP_COND in inputs  # guidance is an input of the UNet itself
        guided = scale > 1 and not distilled
        with clock("text_encoder"):
            embeddings = self._embed(request, guided)  # (B or 2B, L, D)
        num_rows = len(embeddings)
        text = unet.pin(names.ENCODER_HIDDEN_STATES, embeddings)
        feeds: dict[str, Any] = {names.ENCODER_HIDDEN_STATES: text}
        if distilled:
            size = int(inputs[names.TIMESTEP_COND].shape[1])
            embedding = np.repeat(guidance_scale_embedding(scale, size), num_rows, axis=0)
            feeds[names.TIMESTEP_COND] = unet.pin(names.TIMESTEP_COND, embedding)
        timestep = inputs[names.TIMESTEP]

        def predict(call: Call) -> Array:
            sample = np.concatenate([call.sample, call.sample]) if guided else call.sample
            feeds[names.SAMPLE] = sample  # (B or 2B, C, h, w)
            feeds[names.TIMESTEP] = _timestep_feed(timestep, call.timestep, num_rows)
            with clock("unet"):
                prediction = unet.run(feeds)[names.OUT_SAMPLE]
            _require_finite(names.UNET, prediction)
            if not guided:
                return prediction
            half = num_rows // 2
            return guide(prediction[:half], prediction[half:], scale, request.guidance_rescale)

        return predict

    def _embed(self, request: Request, guided: bool) -> Array:
        """Text embeddings, the negative prompts' first when guidance needs them."""
        embeddings = embed_prompts(
            self._open_tokenizer(),
            self._engine(names.TEXT_ENCODER),
            request.prompts,
            request.negative_prompts if guided else (),
            request.clip_skip,
        )
        _require_finite(names.TEXT_ENCODER, embeddings)
        return embeddings

    def _decode(self, latents: Array, clock: _Clock | None = None) -> tuple[Image, ...]:
        """Latents (B, C, h, w) to PIL images, one at a time: decoding needs the most memory of
        all."""
        from PIL.Image import fromarray

        engine = self._engine(names.VAE_DECODER)
        images = []
        for latent in latents:
            scaled = latent[None] / self.bundle.scaling_factor + self.bundle.shift_factor
            with (clock or _Clock())("vae_decoder"):
                sample = engine.run({names.LATENT_SAMPLE: scaled.astype(np.float32)})[names.SAMPLE]
            _require_finite(names.VAE_DECODER, sample)
            pixels = np.rint((sample[0] / 2 + 0.5).clip(0, 1) * 255).astype(np.uint8)  # (3, H, W)
            images.append(fromarray(pixels.transpose(1, 2, 0)))
        return tuple(images)

    def _preview(self, plan: Plan, call: Call, prediction: Array, index: int) -> tuple[Image, ...]:
        return self._decode(plan.denoised(call.sample, prediction, index))

    def _plan(self, request: Request) -> Plan:
        config = SamplerConfig.from_diffusers(self.bundle.scheduler_config)
        if request.scheduler is not None:
            config = config.renamed(request.scheduler)
        return config.corrected().plan(
            num_inference_steps=request.num_inference_steps,
            timesteps=request.timesteps,
            sigmas=request.sigmas,
            eta=request.eta,
        )

    def _latent_shape(self, request: Request) -> tuple[int, int, int, int]:
        """Of one image: (1, C, h, w)."""
        factor = self.bundle.vae_scale_factor
        assert request.height and request.width  # resolved
        return 1, self.bundle.latent_channels, request.height // factor, request.width // factor

    def _engine(self, name: str) -> Engine:
        with self._loading:
            if name not in self._engines:
                self._engines[name] = self.bundle.open_engine(name, self.target)
            return self._engines[name]

    def _open_tokenizer(self) -> ClipTokenizer:
        with self._loading:
            if self._tokenizer is None:
                self._tokenizer = ClipTokenizer.open(self.bundle.tokenizer_folder)
            return self._tokenizer


class _Clock:
    """Adds up the seconds spent in each component, and with the caller between two steps."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        parts = ("loading", "text_encoder", "unet", "vae_decoder", "caller")
        self._spent = dict.fromkeys(parts, 0.0)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent[name] += time.perf_counter() - start

    def timings(self) -> Timings:
        spent = dict(self._spent)
        total = time.perf_counter() - self._start - spent.pop("caller")
        return Timings(**spent, host=total - sum(spent.values()), total=total)


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _num_steps(request: Request, defaults: Mapping[str, Any]) -> int:
    custom = _first(request.timesteps, request.sigmas, ())
    default = defaults.get("num_inference_steps")
    num_steps: int = _first(len(custom) or None, request.num_inference_steps, default, 50)
    return num_steps


def _seed(request: Request) -> int:
    assert request.seed is not None  # resolved
    return request.seed


def _timestep_feed(spec: TensorSpec, timestep: float, num_rows: int) -> npt.NDArray[Any]:
    """The timestep for each row, or the one scalar that optimum's UNets take."""
    if spec.dtype.kind == "i" and timestep % 1:
        raise RequestError(
            f"scheduler: asks at timestep {timestep:g}, but this UNet takes whole numbers alone "
            f"({spec.dtype}); choose another scheduler, or export the checkpoint again"
        )
    return np.full((num_rows,) if spec.shape else (), timestep, spec.dtype)


def _require_finite(component: str, array: Array) -> None:
    if not np.isfinite(array).all():
        raise NonFiniteError(
            f"{component}: {np.count_nonzero(~np.isfinite(array))} of {array.size} output values "
            "are NaN or infinite, so there is no picture to hand over; use target cpu, or export "
            "the checkpoint again"
        )
