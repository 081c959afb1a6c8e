"""The model as samplers see it: a denoiser with its conditioning, guidance, control and mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sdrt import tensor_names as names
from sdrt.ask import Ask, Asks, Constant, Link
from sdrt.denoising.conditioning import Conditioning, timestep_feed
from sdrt.denoising.controlnets import ControlChain
from sdrt.denoising.guidance import guide
from sdrt.samplers.protocol import Call
from sdrt_engines import Array, Signature


class Denoiser:
    """Answers the calls of a sampler for one job.

    `extra` (B, 1 + C, h, w) are the extra channels of an inpainting denoiser: the mask and the
    masked image.
    """

    def __init__(
        self,
        component: str,
        signature: Signature,
        conditioning: Conditioning,
        *,
        guidance_scale: float = 1.0,
        guidance_rescale: float = 0.0,
        control: ControlChain | None = None,
        extra: Array | None = None,
    ) -> None:
        self._component = component
        self._conditioning = conditioning
        self._scale, self._rescale = guidance_scale, guidance_rescale
        self._control, self._extra = control, extra
        self._num_branches = len(conditioning.branches)
        self._rows = tuple(range(conditioning.num_rows))
        self._timestep = signature.input(names.TIMESTEP)
        self._constant = Constant(conditioning.feeds_for(signature))

    def predict(self, call: Call, step: int) -> Asks[Array]:
        """The guided prediction (B, C, h, w) for a call, the `step`-th of the job."""
        answer = yield self.ask(call, step)
        prediction: Array = answer.outputs[names.OUT_SAMPLE]  # (R, C, h, w)
        positive = prediction[self._conditioning.rows_of("positive")]
        if "negative" not in self._conditioning.branches:
            return positive
        negative = prediction[self._conditioning.rows_of("negative")]
        return guide(negative, positive, self._scale, self._rescale)

    def ask(self, call: Call, step: int) -> Ask:
        """The ask for a call."""
        latents = self._for_branches(call.sample)
        sample = latents
        if self._extra is not None:
            sample = self._for_branches(np.concatenate([call.sample, self._extra], axis=1))
        nets = () if self._control is None else self._control.links(step, latents, call.timestep)
        timestep = timestep_feed(self._timestep, call.timestep, len(self._rows))
        changing = {names.SAMPLE: sample, names.TIMESTEP: timestep}
        denoiser = Link(self._component, self._rows, changing, self._constant)
        return Ask((*nets, denoiser), _OUTPUTS)

    def _for_branches(self, sample: Array) -> Array:
        """The sample (B, …) for the rows of each branch, (R, …)."""
        if self._num_branches == 1:
            return sample
        return np.concatenate([sample] * self._num_branches)


class DenoiserOfGroups:
    """Answers the calls of a sampler with denoisers that take some of its images each."""

    def __init__(self, groups: Sequence[tuple[Sequence[int], Denoiser]]) -> None:
        self._groups = [(list(images), denoiser) for images, denoiser in groups]

    def predict(self, call: Call, step: int) -> Asks[Array]:
        """The guided prediction (B, C, h, w) for a call, the `step`-th of the job."""
        prediction = np.empty_like(call.sample)
        for images, denoiser in self._groups:
            part = replace(call, sample=call.sample[images])
            prediction[images] = yield from denoiser.predict(part, step)
        return prediction


_OUTPUTS = (names.OUT_SAMPLE,)
