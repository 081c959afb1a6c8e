"""The ControlNets of a job: steps, rows and feeds of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sdrt import tensor_names as names
from sdrt.ask import Constant, Link
from sdrt.control import Control
from sdrt.denoising.conditioning import Conditioning, timestep_feed
from sdrt_engines import Array, Signature, TensorSpec

_LIGHTEST = 0.1  # guess mode: the factor of the first skip connection's residual


@dataclass(frozen=True, eq=False)
class ControlNet:
    """One net of a job with its image, scale and window."""

    component: str
    signature: Signature
    control: Control
    image: Array  # (1, K, H, W), in 0..1
    pools_globally: bool = False  # its residuals are means over the image (style nets)

    def scales(self, guess_mode: bool) -> Array:
        """The factor of each residual, (N,). Guess mode weights deep residuals more than shallow
        ones (Zhang et al. 2023, https://arxiv.org/abs/2302.05543: "guess mode")."""
        count = len(self.signature.outputs)
        if guess_mode and not self.pools_globally:
            factors = np.logspace(math.log10(_LIGHTEST), 0, count) * self.control.scale
        else:
            factors = np.full(count, self.control.scale)
        return factors.astype(np.float32)


class ControlChain:
    """The links of a job's ControlNets, step by step.

    In guess mode the nets run only on the rows of the prompts. A net outside its window runs on no
    row but stays a link, so that the ask can be joined with one inside the window.
    """

    def __init__(
        self,
        nets: Sequence[ControlNet],
        conditioning: Conditioning,
        *,
        num_steps: int,
        guess_mode: bool,
    ) -> None:
        guess_mode = guess_mode or any(net.pools_globally for net in nets[:1])  # as diffusers does
        rows = slice(0, conditioning.num_rows)
        if guess_mode:
            rows = conditioning.rows_of("positive")
        self._num_steps = num_steps
        self._parts = [_Part.of(net, conditioning, rows, guess_mode) for net in nets]

    def links(self, step: int, sample: Array, timestep: float) -> tuple[Link, ...]:
        """The nets at a step; `sample` (R, C, h, w) and `timestep` are the denoiser's."""
        return tuple(
            part.link(sample, timestep, active=part.control.is_active(step, self._num_steps))
            for part in self._parts
        )


@dataclass(frozen=True, eq=False)
class _Part:
    """One net, prepared for all steps."""

    component: str
    control: Control
    rows: slice
    timestep: TensorSpec
    active: Constant
    idle: Constant  # the same without rows

    @classmethod
    def of(
        cls, net: ControlNet, conditioning: Conditioning, rows: slice, guess_mode: bool
    ) -> _Part:
        num_rows = rows.stop - rows.start
        feeds: dict[str, Array] = {
            name: array[rows] for name, array in conditioning.feeds_for(net.signature).items()
        }
        feeds[names.CONTROLNET_COND] = np.repeat(net.image, num_rows, axis=0)
        feeds[names.CONDITIONING_SCALE] = np.repeat(net.scales(guess_mode)[None], num_rows, axis=0)
        idle = {name: array[:0] for name, array in feeds.items()}
        timestep = net.signature.input(names.TIMESTEP)
        return cls(net.component, net.control, rows, timestep, Constant(feeds), Constant(idle))

    def link(self, sample: Array, timestep: float, *, active: bool) -> Link:
        rows = self.rows if active else slice(0, 0)
        changing: Mapping[str, Array] = {
            names.SAMPLE: sample[rows],
            names.TIMESTEP: timestep_feed(self.timestep, timestep, rows.stop - rows.start),
        }
        constant = self.active if active else self.idle
        return Link(self.component, tuple(range(rows.start, rows.stop)), changing, constant)
