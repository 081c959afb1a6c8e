"""The shapes of each network's inputs, from the sizes and batches of images.

A user asks for `512x512` and `--batch 1..4`; networks count latents and rows:

* UNet and ControlNets: one row per image, two with guidance. So a batch of B means runs of 2B rows
  and of B rows. A static batch gives two profiles of one plan, which share its weights: 2B first,
  as nearly all runs are guided. A range MIN..MAX gives one profile of MIN..2·MAX rows, tuned for
  2·OPT.
* Text encoder: each different text once, so 1 to 2B rows.
* VAE: one image at a time.

Prompts of up to `--chunks` chunks get profiles of their own, so that shorter ones keep theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sdrt.bundle.manifest import Component
from sdrt.families.family import Role
from sdrt_engines import EngineError
from sdrt_engines.shape_profiles import Profile, Range, profile_of_signature
from sdrt_export.errors import BuildError

# Networks of these roles count height and width in pixels, all others in latents.
_IMAGES: tuple[Role, ...] = ("vae encoder",)
_SINGLE: tuple[Role, ...] = ("vae encoder", "vae decoder")
_TEXTS: tuple[Role, ...] = ("text encoder",)
_ENDS = ("min", "opt", "max")


@dataclass(frozen=True)
class ImageShapes:
    """Images of these widths and heights, in pixels."""

    width: Range
    height: Range

    @classmethod
    def parse(cls, text: str) -> ImageShapes:
        """`512x768` (width x height), `512x512..1024x1024`, or with the best size in the middle."""
        corners = [corner.split("x") for corner in text.lower().split("..")]
        if not all(len(corner) == 2 for corner in corners):
            raise BuildError(
                f"--shapes: got '{text}', expected WIDTHxHEIGHT, or from one to another as "
                "512x512..1024x1024"
            )
        try:
            width, height = ("..".join(sides) for sides in zip(*corners, strict=True))
            return cls(Range.parse(width), Range.parse(height))
        except EngineError as error:
            raise BuildError(f"--shapes {text}: {error}") from error

    def require_multiple(self, factor: int) -> None:
        """BuildError unless every corner is a multiple of `factor`, the pixels of one latent."""
        for side in ("width", "height"):
            range_ = getattr(self, side)
            for size in (range_.min, range_.opt, range_.max):
                if size % factor:
                    below, above = size // factor * factor, (size // factor + 1) * factor
                    raise BuildError(
                        f"--shapes {self}: {side} {size} is not a multiple of {factor}: take "
                        f"{max(below, factor)} or {above}"
                    )

    def __str__(self) -> str:
        ends = [f"{getattr(self.width, end)}x{getattr(self.height, end)}" for end in _ENDS]
        return "..".join(dict.fromkeys(ends))


@dataclass(frozen=True)
class ShapesWanted:
    """The image sizes and batches that a bundle's plans should run."""

    shapes: tuple[ImageShapes, ...]
    batch: Range
    tokens: int  # of a prompt of one chunk
    pixels_per_latent: int
    chunks: int = 1  # the most of a prompt

    @property
    def lengths(self) -> tuple[Range, ...]:
        """The lengths of prompts in tokens: of one chunk, of more."""
        one = Range.of(self.tokens)
        if self.chunks == 1:
            return (one,)
        return one, Range(2 * self.tokens, 2 * self.tokens, self.chunks * self.tokens)


def profiles_of_component(component: Component, wanted: ShapesWanted) -> tuple[Profile, ...]:
    """A profile for each of the shapes and kinds of run, without repeats, in the given order."""
    profiles = [
        profile_of_signature(
            component.signature,
            {
                "batch": rows,
                "height": _measured(component.role, shapes.height, wanted.pixels_per_latent),
                "width": _measured(component.role, shapes.width, wanted.pixels_per_latent),
                "sequence": length,
            },
        )
        for shapes in wanted.shapes
        for length in wanted.lengths
        for rows in _rows(component.role, wanted.batch)
    ]
    return tuple(p for index, p in enumerate(profiles) if p not in profiles[:index])


def _rows(role: Role, batch: Range) -> Sequence[Range]:
    if role in _SINGLE:
        return (Range.of(1),)
    if role in _TEXTS:
        return (Range(1, 2 * batch.opt, 2 * batch.max),)
    if batch.static:
        return (Range.of(2 * batch.max), batch)
    return (Range(batch.min, 2 * batch.opt, 2 * batch.max),)


def _measured(role: Role, pixels: Range, pixels_per_latent: int) -> Range:
    if role in _IMAGES:
        return pixels
    return pixels.map(lambda size: size // pixels_per_latent)
