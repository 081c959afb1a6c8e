"""The prompts of a job as its encoders read them: versions over the steps, each in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import TypeAlias

from sdrt import tensor_names as names
from sdrt.errors import RequestError
from sdrt.families.family import Encoder, TextRecipe
from sdrt.notes import Note
from sdrt.text.chunks import Chunk
from sdrt_engines import Signature

MAX_CHUNKS = 64  # of a context: its attention then takes as much as that among 64×64 latents
MAX_ENCODED = 2048  # different chunks of a job: as many as plain prompts can be


@dataclass(frozen=True)
class Version:
    """The words of a prompt up to a call of the denoiser; calls are counted from 0.

    A1111 counts them from 0, too, but the steps of its prompts from 1: the first version of
    `[a:b:3]` has four calls.
    """

    until: int
    chunks: tuple[Chunk | None, ...]  # None: zeros

    def of_length(self, length: int, total: int, empty: Chunk) -> Version:
        """Filled up with empty chunks to `length`, and repeated to `total`."""
        filler = None if self.chunks == (None,) else empty
        chunks = self.chunks + (filler,) * (length - len(self.chunks))
        return replace(self, chunks=chunks * (total // length))


Row: TypeAlias = tuple[Version, ...]  # in the order of their calls


@dataclass(frozen=True, eq=False)
class EncoderPrompts:
    """The rows of one encoder, negative prompts first, and the output that is read of each."""

    encoder: Encoder
    signature: Signature
    rows: tuple[Row, ...]  # R
    outputs: tuple[str, ...]  # R
    empty: Chunk

    def length_of(self, row: int) -> int:
        return max(len(version.chunks) for version in self.rows[row])

    def of_lengths(self, lengths: Sequence[int], totals: Sequence[int]) -> EncoderPrompts:
        rows = tuple(
            tuple(version.of_length(length, total, self.empty) for version in row)
            for row, length, total in zip(self.rows, lengths, totals, strict=True)
        )
        return replace(self, rows=rows)


@dataclass(frozen=True, eq=False)
class ReadPrompts:
    """The prompts of a job for all encoders. Those of one image have one length."""

    recipe: TextRecipe
    num_images: int
    num_rows: int  # one per image, or two with negative prompts
    encoders: tuple[EncoderPrompts | None, ...]  # None: absent, which means zeros
    notes: tuple[Note, ...] = ()  # on prompts that were cut off

    def versions_at(self, call: int) -> tuple[tuple[int, ...], ...]:
        """The indices of the versions that hold at a call: for each encoder one for each row."""
        return tuple(
            () if prompts is None else tuple(_index_at(call, row) for row in prompts.rows)
            for prompts in self.encoders
        )

    @property
    def images_of_one_length(self) -> tuple[tuple[int, ...], ...]:
        """The images whose prompts have the same length, and so can share a run."""
        images: dict[tuple[int, ...], list[int]] = {}
        for image in range(self.num_images):
            images.setdefault(tuple(self._num_chunks(image)), []).append(image)
        return tuple(map(tuple, images.values()))

    def rows_of(self, images: Sequence[int]) -> tuple[int, ...]:
        """The rows of some images, negative prompts first."""
        return tuple(
            start + image for start in range(0, self.num_rows, self.num_images) for image in images
        )

    def require_fitting(self, denoiser: Signature) -> None:
        """RequestError if a denoiser reads contexts of another length only."""
        expected = denoiser.input(names.ENCODER_HIDDEN_STATES).shape[1]
        num_chunks = max(max(self._num_chunks(i), default=1) for i in range(self.num_images))
        if num_chunks > 1 and isinstance(expected, int):
            raise RequestError(
                f"prompt: the prompts take {num_chunks} chunks, but this bundle's denoiser was "
                f"exported for {expected} tokens: shorten them, or export the checkpoint with sdrt"
            )

    def _num_chunks(self, image: int) -> Iterator[int]:
        """The chunks of an image's prompts, for each encoder."""
        for prompts in filter(None, self.encoders):
            yield len(prompts.rows[image][0].chunks)


def align(group: Sequence[int], read: list[EncoderPrompts | None], num_images: int) -> None:
    """Gives all rows of an image one length, for the encoders of a group.

    What is shorter in the same row, as a version of it or for another encoder, is filled up with
    chunks of the empty prompt, as in A1111. The shorter of a prompt and its negative prompt is
    repeated: attention to a context that stands twice is attention to that context, and A1111 does
    not fill it up either.
    """
    found = [(index, prompts) for index in group if (prompts := read[index]) is not None]
    if not found:
        return
    rows = range(len(found[0][1].rows))
    lengths = [max(prompts.length_of(row) for _, prompts in found) for row in rows]
    of_images = [lengths[image::num_images] for image in range(num_images)]
    totals = [_common(of_images[row % num_images]) for row in rows]
    for index, prompts in found:
        read[index] = prompts.of_lengths(lengths, totals)


def _common(lengths: Sequence[int]) -> int:
    total = lcm(*lengths)
    if total > MAX_CHUNKS:
        several = " and ".join(map(str, sorted(lengths)))
        raise RequestError(
            f"prompt, negative_prompt: they take {several} chunks, so that together each would "
            f"take {total}, expected {MAX_CHUNKS} at most: make them of similar lengths"
        )
    return total


def require_few(read: Sequence[EncoderPrompts | None]) -> None:
    for prompts in filter(None, read):
        chunks = {
            chunk.ids
            for row in prompts.rows
            for version in row
            for chunk in version.chunks
            if chunk is not None
        }
        if len(chunks) > MAX_ENCODED:
            raise RequestError(
                f"prompt: the prompts and their edits take {len(chunks)} different chunks, "
                f"expected {MAX_ENCODED} at most: make several requests, or edit less"
            )


def _index_at(call: int, row: Row) -> int:
    return next((i for i, version in enumerate(row) if call <= version.until), len(row) - 1)
