"""The inputs that steer a denoiser, constant over all steps: text, sizes, guidance embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from sdrt import tensor_names as names
from sdrt.denoising.guidance import guidance_scale_embedding
from sdrt.errors import RequestError
from sdrt.families.family import DenoiserFacts
from sdrt.text.encoding import TextStates
from sdrt_engines import Array, Signature, TensorSpec

Branch: TypeAlias = Literal["negative", "positive"]
UNGUIDED: tuple[Branch, ...] = ("positive",)
GUIDED: tuple[Branch, ...] = ("negative", "positive")


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Rows for a denoiser's inputs, by input name: (R, …), R being B rows for each branch.

    The branches are concatenated: the rows of the first come first.
    """

    feeds: Mapping[str, Array]
    branches: tuple[Branch, ...]

    @property
    def num_rows(self) -> int:
        return len(self.feeds[names.ENCODER_HIDDEN_STATES])

    def rows_of(self, branch: Branch) -> slice:
        """The rows of one branch."""
        size = self.num_rows // len(self.branches)
        start = self.branches.index(branch) * size
        return slice(start, start + size)

    def only(self, branch: Branch) -> Conditioning:
        """The same with the rows of one branch only."""
        rows = self.rows_of(branch)
        return Conditioning({name: array[rows] for name, array in self.feeds.items()}, (branch,))

    def feeds_for(self, network: Signature) -> dict[str, Array]:
        """The entries for the inputs of a network."""
        taken = [spec.name for spec in network.inputs]
        return {name: array for name, array in self.feeds.items() if name in taken}


def branches_of(facts: DenoiserFacts, guidance_scale: float) -> tuple[Branch, ...]:
    """The predictions that a step needs: classifier-free guidance adds the negative prompt's."""
    guided = facts.guidance == "classifier-free" and guidance_scale > 1
    return GUIDED if guided else UNGUIDED


def conditioning_from_text(
    text: TextStates,
    facts: DenoiserFacts,
    denoiser: Signature,
    *,
    branches: tuple[Branch, ...],
    time_ids: Mapping[Branch, Sequence[float]],
    guidance_scale: float,
) -> Conditioning:
    """The conditioning of a job; `time_ids` are the numbers for the rows of each branch."""
    num_rows = len(text.context)
    feeds = {names.ENCODER_HIDDEN_STATES: text.context}
    if text.pooled is not None:
        feeds[names.TEXT_EMBEDS] = text.pooled
    if facts.time_ids:
        rows = np.array([time_ids[branch] for branch in branches], np.float32)
        feeds[names.TIME_IDS] = _repeated(rows, num_rows // len(branches))
    if facts.guidance == "embedded":
        width = int(denoiser.input(names.TIMESTEP_COND).shape[1])
        embedding = guidance_scale_embedding(guidance_scale, width)
        feeds[names.TIMESTEP_COND] = _repeated(embedding, num_rows)
    return Conditioning(feeds, branches)


def _repeated(rows: Array, count: int) -> Array:
    return np.repeat(rows, count, axis=0)


def timestep_feed(spec: TensorSpec, timestep: float, num_rows: int) -> Array:
    """The timestep for each row, or the one scalar that optimum's UNets take."""
    if spec.dtype.kind == "i" and timestep % 1:
        raise RequestError(
            f"scheduler: got timestep {timestep:g}, but this UNet takes integers only "
            f"({spec.dtype}): choose another scheduler, or export the checkpoint again"
        )
    return np.full((num_rows,) if spec.shape else (), timestep, spec.dtype)
