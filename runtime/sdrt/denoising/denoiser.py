"""The model as samplers see it: a UNet with its text, guidance, control and mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sdrt import tensor_names as names
from sdrt.arrays import require_finite
from sdrt.denoising.guidance import guidance_scale_embedding, guide
from sdrt.denoising.residuals import Residuals
from sdrt.errors import RequestError
from sdrt.samplers import Call
from sdrt.timings import Clock
from sdrt_engines import Engine, Feed, TensorSpec

Array = npt.NDArray[np.float32]


class Denoiser:
    """Answers a sampler's calls for one request.

    ``text`` has the negative prompts' rows first when there is guidance, (2B, L, D). ``beside``
    (B, 1 + C, h, w) is what an inpainting UNet sees beside the latents: the mask and the masked
    picture.
    """

    def __init__(
        self,
        unet: Engine,
        text: Array,
        clock: Clock,
        *,
        guidance_scale: float,
        guidance_rescale: float = 0.0,
        residuals: Residuals | None = None,
        beside: Array | None = None,
    ) -> None:
        self._unet, self._clock = unet, clock
        self._scale, self._rescale = guidance_scale, guidance_rescale
        self._guided = is_guided(unet, guidance_scale)
        self._residuals, self._beside = residuals, beside
        self._num_rows = len(text)
        self._timestep = unet.signature.input(names.TIMESTEP)
        self._pinned: dict[str, Feed] = {
            names.ENCODER_HIDDEN_STATES: unet.pin(names.ENCODER_HIDDEN_STATES, text)
        }
        if is_distilled(unet):
            size = int(unet.signature.input(names.TIMESTEP_COND).shape[1])
            embedding = np.repeat(guidance_scale_embedding(guidance_scale, size), len(text), axis=0)
            self._pinned[names.TIMESTEP_COND] = unet.pin(names.TIMESTEP_COND, embedding)

    def __call__(self, call: Call, step: int) -> Array:
        """The guided prediction (B, C, h, w) at a call, the ``step``-th of the request."""
        latents = self._rows(call.sample)  # (B or 2B, C, h, w)
        timestep = _timestep_feed(self._timestep, call.timestep, self._num_rows)
        feeds = {**self._pinned, names.SAMPLE: latents, names.TIMESTEP: timestep}
        if self._beside is not None:
            feeds[names.SAMPLE] = self._rows(np.concatenate([call.sample, self._beside], axis=1))
        if self._residuals is not None:
            with self._clock("controlnet"):
                feeds |= self._residuals(step, latents, timestep)
        with self._clock("unet"):
            prediction = self._unet.run(feeds)[names.OUT_SAMPLE]
        if not np.isfinite(prediction).all() and self._residuals is not None:
            self._residuals.require_finite(step, latents, timestep)  # is it a ControlNet's fault?
        require_finite(self._unet.name, prediction)
        if not self._guided:
            return prediction
        half = self._num_rows // 2
        return guide(prediction[:half], prediction[half:], self._scale, self._rescale)

    def _rows(self, sample: Array) -> Array:
        """The sample for each row of text."""
        return np.concatenate([sample, sample]) if self._guided else sample


def is_distilled(unet: Engine) -> bool:
    """Whether guidance is an input of the UNet itself (LCM)."""
    return any(spec.name == names.TIMESTEP_COND for spec in unet.signature.inputs)


def is_guided(unet: Engine, guidance_scale: float) -> bool:
    """Whether each step needs the negative prompt's prediction, too."""
    return guidance_scale > 1 and not is_distilled(unet)


def _timestep_feed(spec: TensorSpec, timestep: float, num_rows: int) -> npt.NDArray[Any]:
    """The timestep for each row, or the one scalar that optimum's UNets take."""
    if spec.dtype.kind == "i" and timestep % 1:
        raise RequestError(
            f"scheduler: asks at timestep {timestep:g}, but this UNet takes whole numbers alone "
            f"({spec.dtype}); choose another scheduler, or export the checkpoint again"
        )
    return np.full((num_rows,) if spec.shape else (), timestep, spec.dtype)
