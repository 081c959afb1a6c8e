"""The shapes that an engine is built for, and the choice of one for a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sdrt_engines.dimensions import size_of
from sdrt_engines.errors import EngineError, TensorError
from sdrt_engines.tensor import Shape, Signature, shape_text


@dataclass(frozen=True)
class Range:
    """A size from `min` to `max`; engines are tuned for `opt`. A single number is all three."""

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise EngineError(
                f"range {self}: expected MIN..MAX or MIN..OPT..MAX, ascending, from 1 upwards"
            )

    @classmethod
    def of(cls, size: int) -> Range:
        return cls(size, size, size)

    @classmethod
    def parse(cls, text: str) -> Range:
        """`2`, `1..4` (tuned for 1) or `1..2..4` (tuned for 2); `str` writes it."""
        try:
            numbers = [int(number) for number in text.split("..")]
        except ValueError:
            numbers = []
        match numbers:
            case [size]:
                return cls.of(size)
            case [least, most]:
                return cls(least, least, most)
            case [least, best, most]:
                return cls(least, best, most)
        raise EngineError(f"got '{text}', expected a size, MIN..MAX or MIN..OPT..MAX, as 1..4")

    @property
    def static(self) -> bool:
        return self.min == self.max

    def map(self, size_of: Callable[[int], int]) -> Range:
        """The range of a size that grows with this one."""
        return Range(size_of(self.min), size_of(self.opt), size_of(self.max))

    def __str__(self) -> str:
        if self.static:
            return str(self.min)
        middle = () if self.opt == self.min else (self.opt,)
        return "..".join(map(str, (self.min, *middle, self.max)))


@dataclass(frozen=True)
class Profile:
    """A range per dimension for each input. A run must fit one profile as a whole."""

    inputs: Mapping[str, tuple[Range, ...]]

    @property
    def static(self) -> bool:
        return all(range_.static for ranges in self.inputs.values() for range_ in ranges)

    def covers(self, shapes: Mapping[str, Shape]) -> bool:
        """True if inputs of these shapes fit in one run."""
        return all(
            len(shape) == len(self.inputs[name])
            and all(
                r.min <= size <= r.max for r, size in zip(self.inputs[name], shape, strict=True)
            )
            for name, shape in shapes.items()
        )

    def shapes(self, end: str) -> dict[str, Shape]:
        """The shapes at one `end` of the ranges: "min", "opt" or "max"."""
        return {
            name: tuple(getattr(range_, end) for range_ in ranges)
            for name, ranges in self.inputs.items()
        }

    def distance(self, shapes: Mapping[str, Shape]) -> tuple[int, float]:
        """The distance from what the profile is tuned for; static profiles sort before all
        others."""
        best = self.shapes("opt")
        pairs = [
            (size, opt)
            for name, shape in shapes.items()
            for size, opt in zip(shape, best[name], strict=True)
        ]
        return not self.static, sum(abs(math.log(size / opt)) for size, opt in pairs)

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {shape_text(tuple(map(str, ranges)))}" for name, ranges in self.inputs.items()
        )

    def to_json(self) -> dict[str, list[str]]:
        return {name: [str(range_) for range_ in ranges] for name, ranges in self.inputs.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Sequence[str]]) -> Profile:
        return cls({name: tuple(map(Range.parse, ranges)) for name, ranges in value.items()})


def choose_profile(name: str, profiles: Sequence[Profile], shapes: Mapping[str, Shape]) -> int:
    """The index of the profile that serves inputs of these shapes best.

    TensorError that lists all profiles if none does. It is not an error of the target, so no other
    target is tried. `name` is the engine's.
    """
    fitting = [index for index, profile in enumerate(profiles) if profile.covers(shapes)]
    if fitting:
        return min(fitting, key=lambda index: profiles[index].distance(shapes))
    got = ", ".join(f"{tensor} {shape_text(shape)}" for tensor, shape in shapes.items())
    known = "; ".join(map(str, profiles))
    raise TensorError(
        f"{name}: no profile of this engine covers {got}; it has: {known}: "
        "build one with `sdrt build --shapes WIDTHxHEIGHT --batch N --chunks N`"
    )


def profile_of_signature(signature: Signature, sizes: Mapping[str, Range]) -> Profile:
    """The profile of a network with sizes in these ranges: `{"batch": …, "height": …}`.

    EngineError for a dimension with another name.
    """
    return Profile(
        {
            spec.name: tuple(_range_of_dim(dim, sizes, spec.name) for dim in spec.shape)
            for spec in signature.inputs
        }
    )


def _range_of_dim(dim: int | str, sizes: Mapping[str, Range], tensor: str) -> Range:
    ends = [
        size_of(dim, {name: getattr(range_, end) for name, range_ in sizes.items()})
        for end in ("min", "opt", "max")
    ]
    match ends:
        case [int(least), int(best), int(most)]:
            return Range(least, best, most)
    raise EngineError(
        f"input '{tensor}' has a dimension '{dim}', expected {', '.join(sizes)}: "
        "export the checkpoint with sdrt"
    )
