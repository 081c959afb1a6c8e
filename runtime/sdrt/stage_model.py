"""The model of a stage: its denoisers, one for each text, guidance and group of images."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from sdrt.ask import Asks
from sdrt.control import is_inside
from sdrt.denoising.conditioning import UNGUIDED, Branch, conditioning_from_text
from sdrt.denoising.controlnets import ControlChain
from sdrt.denoising.denoiser import Denoiser, DenoiserOfGroups
from sdrt.denoising.forecasting import Images
from sdrt.request import Request
from sdrt.samplers.protocol import Call
from sdrt.stage import Stage
from sdrt.text.encoding import EncodedPrompts, Indices, TextStates
from sdrt_engines import Array, Signature
from sdrt_engines.recent import Recent

_NUM_DENOISERS = 4  # kept ready for edited prompts, with what they upload


class StageModel:
    """Answers the calls of a stage's sampler.

    `num_calls` are those of all stages, which a guidance interval counts; `extra` (B, 1 + C, h, w)
    are the extra channels of an inpainting denoiser.
    """

    def __init__(
        self,
        stage: Stage,
        request: Request,
        signature: Signature,
        text: EncodedPrompts,
        *,
        num_calls: int,
        extra: Array | None,
    ) -> None:
        self._stage, self._request, self._signature = stage, request, signature
        self._text, self._num_calls, self._extra = text, num_calls, extra
        self._all = tuple(range(text.prompts.num_images))
        self._made = Recent[Denoiser | DenoiserOfGroups](_NUM_DENOISERS)

    def predict(self, call: Call, number: int, images: Images | None = None) -> Asks[Array]:
        """The guided prediction for the stage's `number`-th call, whose samples are those of some
        images, or of all."""
        chosen = self._all if images is None else images
        versions, branches = self._versions_at(number), self._branches_at(number)
        denoiser = self._made.get_or_make(
            (versions, branches, chosen), lambda: self._denoiser(versions, branches, chosen)
        )
        return (yield from denoiser.predict(call, number))

    def conditions(self, number: int) -> Sequence[Hashable]:
        """For each image what its prediction depends on in addition to sample and timestep."""
        nets = (net.control for net in self._stage.controlnets)
        active = tuple(net.is_active(number, self._stage.steps.num_calls) for net in nets)
        of_all = self._branches_at(number), active
        versions, rows_of = self._versions_at(number), self._text.prompts.rows_of
        return [
            (
                *of_all,
                *(indices[row] for indices in versions if indices for row in rows_of([image])),
            )
            for image in self._all
        ]

    def _versions_at(self, number: int) -> Indices:
        return self._text.versions_at(self._stage.first_call + number)

    def _branches_at(self, number: int) -> tuple[Branch, ...]:
        """Those of the stage; outside the guidance interval only the prompt's."""
        interval = self._request.guidance_interval
        if interval is None:
            return self._stage.branches
        inside = is_inside(interval, self._stage.first_call + number, self._num_calls)
        return self._stage.branches if inside else UNGUIDED

    def _denoiser(
        self, versions: Indices, branches: tuple[Branch, ...], images: Images
    ) -> Denoiser | DenoiserOfGroups:
        """The denoiser of some images: in groups, if the lengths of their texts differ."""
        groups = [
            [image for image in group if image in images]
            for group in self._text.prompts.images_of_one_length
        ]
        denoisers = [
            (
                [images.index(image) for image in group],
                self._denoiser_of(self._text.states_of(versions, group), branches, group),
            )
            for group in filter(None, groups)
        ]
        return denoisers[0][1] if len(denoisers) == 1 else DenoiserOfGroups(denoisers)

    def _denoiser_of(
        self, text: TextStates, branches: tuple[Branch, ...], images: Sequence[int]
    ) -> Denoiser:
        """The denoiser of images with their text, guidance, control and mask."""
        stage, request = self._stage, self._request
        conditioning = conditioning_from_text(
            text,
            stage.family.denoiser,
            self._signature,
            branches=stage.branches,
            time_ids=stage.time_ids,
            guidance_scale=stage.guidance_scale,
        )
        if branches != stage.branches:
            conditioning = conditioning.only("positive")
        return Denoiser(
            stage.denoiser,
            self._signature,
            conditioning,
            guidance_scale=stage.guidance_scale,
            guidance_rescale=request.guidance_rescale,
            control=ControlChain(
                stage.controlnets,
                conditioning,
                num_steps=stage.steps.num_calls,
                guess_mode=request.guess_mode,
            ),
            extra=None if self._extra is None else self._extra[list(images)],
        )
