"""One request on its way from pictures and prompts to images."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sdrt import tensor_names as names
from sdrt.arrays import require_finite
from sdrt.denoising.denoiser import Denoiser, is_guided
from sdrt.denoising.noise import BatchNoise
from sdrt.denoising.residuals import ControlNet, Residuals
from sdrt.denoising.start import (
    Start,
    first_index,
    start_beside_mask,
    start_from_noise,
    start_from_picture,
    start_with_blending,
)
from sdrt.denoising.vae import Posterior, Scaling, decode, encode
from sdrt.images.masks import latent_mask, mask_from_image, paste_back
from sdrt.images.reading import array_from_image
from sdrt.request import Request
from sdrt.resolving import frame_of
from sdrt.result import Result, Step
from sdrt.samplers import Call, Sampler, Schedule
from sdrt.targets.engines import Engines
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt.text.encoding import embed_prompts
from sdrt.timings import Clock
from sdrt_engines import Engine

if TYPE_CHECKING:
    from PIL.Image import Image

Array = npt.NDArray[np.float32]


class Generation:
    """A resolved request with all of its state; the engines are shared with others.

    ``told`` is what the result says of where it ran.
    """

    def __init__(
        self,
        engines: Engines,
        tokenizer: ClipTokenizer,
        request: Request,
        schedule: Schedule,
        told: str,
    ) -> None:
        self.engines, self.request = engines, request
        self._bundle, self._tokenizer = engines.bundle, tokenizer
        self._schedule, self._told = schedule, told
        self._clock = Clock()
        assert request.seed is not None  # resolved
        self._seeds = tuple(request.seed + i for i in range(request.num_images))
        self._noise = BatchNoise(self._seeds)
        self._latents = self._bundle.family.latents
        self._scaling = Scaling(self._latents.scaling_factor, self._latents.shift_factor)
        self._frame = frame_of(request)
        self._controlnets = {name: self._controlnet(name) for name in request.controls}

    def steps(self) -> Generator[Step, None, Result]:
        """Encode, denoise, decode: yields the steps, returns the result."""
        self._clock = Clock()  # the caller may have waited before the first step
        with self._clock("loading"):
            for name in self._component_names():
                self.engines[name]
        start = self._start()
        denoiser = self._denoiser(start)
        sampler = self._schedule.run(start.latents, self._draw, start.index)
        latents = yield from self._denoise(sampler, denoiser, start)  # (B, C, h, w)
        with self._clock("vae_decoder"):
            images = self._decode(latents)
        return Result(
            images=tuple(self._finished(image) for image in images),
            seeds=self._seeds,
            latents=latents,
            request=self.request,
            engine=self._told,
            timings=self._clock.timings(),
        )

    def _component_names(self) -> tuple[str, ...]:
        """What this request needs."""
        request = self.request
        return (
            names.TEXT_ENCODER,
            self._unet_name,
            names.VAE_DECODER,
            *((names.VAE_ENCODER,) if request.picture else ()),
            *(names.controlnet(name) for name in request.control),
        )

    @property
    def _unet_name(self) -> str:
        return names.UNET_CONTROLLED if self.request.control else names.UNET

    def _draw(self) -> Array:
        """The next normals of every image's stream, (B, C, h, w)."""
        assert self.request.height and self.request.width  # resolved
        factor = self._latents.vae_scale_factor
        size = self.request.height // factor, self.request.width // factor
        return self._noise.normal((1, self._latents.channels, *size))

    def _start(self) -> Start:
        request, schedule = self.request, self._schedule
        if request.picture is None:
            return start_from_noise(schedule, self._draw)
        assert request.strength is not None and request.num_inference_steps is not None  # resolved
        index = first_index(schedule, request.num_inference_steps, request.strength)
        pixels = array_from_image(self._frame(request.picture.image))  # (1, 3, H, W)
        if request.mask is None:
            return start_from_picture(schedule, self._draw, self._encode(pixels), index)
        mask = mask_from_image(request.mask.image, self._frame)  # (1, 1, H, W)
        small_mask = latent_mask(mask, self._latents.vae_scale_factor)
        from_noise = request.strength == 1
        if self._bundle.family.denoiser.extra_channels == "mask":
            picture = None if from_noise else self._encode(pixels)
            masked = self._encode(np.where(mask < 0.5, pixels, np.float32(0.5)))  # grey: 0 of -1..1
            return start_beside_mask(schedule, self._draw, picture, masked, small_mask, index)
        picture = self._encode(pixels)
        return start_with_blending(
            schedule, self._draw, picture, small_mask, index, from_noise=from_noise
        )

    def _encode(self, pixels: Array) -> Posterior:
        with self._clock("vae_encoder"):
            return encode(self.engines[names.VAE_ENCODER], pixels, self._scaling)

    def _denoiser(self, start: Start) -> Denoiser:
        """The UNet with this request's text, guidance, control and mask."""
        request, unet = self.request, self.engines[self._unet_name]
        assert request.guidance_scale is not None  # resolved
        guided = is_guided(unet, request.guidance_scale)
        text = self._embed(guided)
        return Denoiser(
            unet,
            text,
            self._clock,
            guidance_scale=request.guidance_scale,
            guidance_rescale=request.guidance_rescale,
            residuals=self._residuals(text, guided, start) if request.control else None,
            beside=start.beside,
        )

    def _embed(self, guided: bool) -> Array:
        """Text embeddings (B or 2B, L, D), the negative prompts' first when guidance needs them."""
        with self._clock("text_encoder"):
            embeddings = embed_prompts(
                self._tokenizer,
                self.engines[names.TEXT_ENCODER],
                self.request.prompts,
                self.request.negative_prompts if guided else (),
                self.request.clip_skip,
            )
        require_finite(names.TEXT_ENCODER, embeddings)
        return embeddings

    def _residuals(self, text: Array, guided: bool, start: Start) -> Residuals:
        nets = [
            controlnet(self.engines[names.controlnet(name)])
            for name, controlnet in self._controlnets.items()
        ]
        return Residuals(
            nets,
            self.engines[names.UNET_CONTROLLED],
            text,
            num_steps=len(self._schedule.timesteps) - start.index,
            guided=guided,
            guess_mode=self.request.guess_mode or nets[0].pools_globally,  # as diffusers does
        )

    def _controlnet(self, name: str) -> Callable[[Engine], ControlNet]:
        """A ControlNet with all but its engine: what can be wrong with it is told before that is
        opened."""
        component, control = names.controlnet(name), self.request.controls[name]
        signature = self._bundle.component(component).signature
        num_channels = signature.input(names.CONTROLNET_COND).shape[1]
        config = self._bundle.component_config(component)
        return partial(
            ControlNet,
            control=control,
            conditioning=control.conditioning(num_channels, self._frame),
            pools_globally=bool(config.get("global_pool_conditions")),
        )

    def _denoise(
        self, sampler: Sampler, denoiser: Denoiser, start: Start
    ) -> Generator[Step, None, Array]:
        """Answers the sampler's calls with the model's predictions; its value is the final
        latents."""
        total, num_calls = len(self._schedule.timesteps) - start.index, 0
        event = next(sampler)
        while True:
            if isinstance(event, Call):
                call, answer = event, denoiser(event, num_calls)
                prediction = answer
                num_calls += 1
            else:
                index, answer = event.index, event.latents
                if start.blend is not None:
                    answer = start.blend(answer, index)
                preview = partial(self._preview, call, prediction, index)
                with self._clock("caller"):
                    yield Step(index - start.index, total, call.timestep, answer, preview)
            try:
                event = sampler.send(answer)
            except StopIteration as finished:
                latents: Array = finished.value
                return latents

    def _decode(self, latents: Array) -> tuple[Image, ...]:
        """Latents (B, C, h, w) to images, one at a time: decoding needs the most memory of all."""
        engine = self.engines[names.VAE_DECODER]
        return tuple(decode(engine, latent[None], self._scaling) for latent in latents)

    def _preview(self, call: Call, prediction: Array, index: int) -> tuple[Image, ...]:
        return self._decode(self._schedule.denoised(call.sample, prediction, index))

    def _finished(self, image: Image) -> Image:
        """The image, pasted back where it is a part of a larger picture."""
        request, box = self.request, self._frame.box
        if box is None:
            return image
        assert request.picture is not None and request.mask is not None
        return paste_back(image, request.picture.image, request.mask.image, box)
