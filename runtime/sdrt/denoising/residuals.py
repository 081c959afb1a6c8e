"""What ControlNets add to the UNet's work at a step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sdrt import tensor_names as names
from sdrt.arrays import require_finite
from sdrt.control import Control
from sdrt_engines import DeviceArray, Engine, Feed, Pinned, Signature, shape_at, to_host

Array = npt.NDArray[np.float32]
Total: TypeAlias = Mapping[str, Array | DeviceArray]  # by the residual's name

_LIGHTEST = 0.1  # guess mode: how much of the first skip connection's residual is left


@dataclass(frozen=True, eq=False)
class ControlNet:
    """One net with its picture, ready for the steps of a request."""

    engine: Engine
    control: Control
    conditioning: Array  # (1, K, H, W)
    pools_globally: bool  # its residuals are means over the picture, as a style net's are

    def scales(self, guess_mode: bool) -> Array:
        """The factor of each residual. Guess mode trusts the deep ones more than the shallow ones
        (Zhang et al. 2023, https://arxiv.org/abs/2302.05543: "guess mode")."""
        count = len(self.engine.signature.outputs)
        if guess_mode and not self.pools_globally:
            factors = np.logspace(math.log10(_LIGHTEST), 0, count) * self.control.scale
        else:
            factors = np.full(count, self.control.scale)
        return factors.astype(np.float32)


class Residuals:
    """What all ControlNets of a request add to the UNet, step by step.

    A net adds its residuals to those of the nets before it, so on a GPU they stay there on their
    way from engine to engine. In guess mode the nets see the prompt alone, and the negative
    prompt's rows get zeros; these are put before the others on the host.
    """

    def __init__(
        self,
        nets: Sequence[ControlNet],
        unet: Engine,
        text: Array,  # (B or 2B, L, D), the negative prompts' first
        *,
        num_steps: int,
        guided: bool,
        guess_mode: bool,
    ) -> None:
        self._unet = unet
        self._num_steps = num_steps
        self._half = guided and guess_mode  # of the rows
        self._text = text[len(text) // 2 :] if self._half else text
        self._nets = tuple(nets)
        self._pinned = {net: self._pin(net, guess_mode) for net in nets}
        self._zeros: dict[Engine, dict[str, Pinned]] = {}

    def __call__(self, step: int, sample: Array, timestep: npt.NDArray[Any]) -> Mapping[str, Feed]:
        """The UNet's residuals for its rows at a step: ``sample`` (B or 2B, C, h, w)."""
        total: Total = {}
        for net in self._at_work(step):
            total = self._added(total, net, sample, timestep)
        if not total:
            return self._zeros_for(self._unet, sample.shape)
        if self._half:
            return {name: _after_zeros(to_host(residual)) for name, residual in total.items()}
        return total

    def require_finite(self, step: int, sample: Array, timestep: npt.NDArray[Any]) -> None:
        """Does a step again; ``NonFiniteError`` names the net that gives NaN or infinity."""
        total: Total = {}
        for net in self._at_work(step):
            total = self._added(total, net, sample, timestep)
            for residual in total.values():
                require_finite(net.engine.name, to_host(residual))

    def _at_work(self, step: int) -> Iterable[ControlNet]:
        return (net for net in self._nets if net.control.is_active(step, self._num_steps))

    def _added(
        self, total: Total, net: ControlNet, sample: Array, timestep: npt.NDArray[Any]
    ) -> Total:
        """What the nets before gave, nothing where it is the first, with this net's added."""
        num_rows = len(self._text)
        rows = {names.SAMPLE: sample[-num_rows:], names.TIMESTEP: timestep[-num_rows:]}
        earlier = {names.earlier(name): residual for name, residual in total.items()}
        zeros = {} if earlier else self._zeros_for(net.engine, rows[names.SAMPLE].shape)
        return net.engine.run_on_device({**rows, **self._pinned[net], **earlier, **zeros})

    def _pin(self, net: ControlNet, guess_mode: bool) -> dict[str, Pinned]:
        feeds = {
            names.ENCODER_HIDDEN_STATES: self._text,
            names.CONTROLNET_COND: np.repeat(net.conditioning, len(self._text), axis=0),
            names.CONDITIONING_SCALE: np.repeat(net.scales(guess_mode)[None], len(self._text), 0),
        }
        return {name: net.engine.pin(name, array) for name, array in feeds.items()}

    def _zeros_for(self, engine: Engine, sample: tuple[int, ...]) -> Mapping[str, Pinned]:
        """Zeros for an engine's residuals, uploaded once."""
        if engine not in self._zeros:
            self._zeros[engine] = {
                name: engine.pin(name, np.zeros(shape, np.float32))
                for name, shape in residual_shapes(engine.signature, sample).items()
            }
        return self._zeros[engine]


def residual_shapes(signature: Signature, sample: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shape of each residual that a network takes when its sample is (B, C, h, w)."""
    dims = signature.input(names.SAMPLE).shape
    sizes = {dim: size for dim, size in zip(dims, sample, strict=True) if isinstance(dim, str)}
    return {
        spec.name: shape_at(spec, sizes)
        for spec in signature.inputs
        if names.is_residual(spec.name)
    }


def _after_zeros(residual: Array) -> Array:
    """(B, …) as the second half of (2B, …)."""
    return np.concatenate([np.zeros_like(residual), residual])
