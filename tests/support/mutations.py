"""Damages a bundle in many ways, one at a time: each gives the same images or one clear error.

    cases = list(mutations(root, count=300, seed=0))
    outcomes = [outcome_of(root, mutation, usual_images(root)) for mutation in cases]

A bundle is damaged in place and repaired afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from sdrt.errors import SdrtError
from sdrt.pipeline import Pipeline
from sdrt.request import Request

Content: TypeAlias = bytes | None  # None: there is no file
Kind: TypeAlias = Literal["same", "refused", "silent", "crash"]


@dataclass(frozen=True)
class Mutation:
    """New contents of some files, by their path in the bundle."""

    description: str
    contents: Mapping[str, Content]


@dataclass(frozen=True)
class Outcome:
    """The result of running a damaged bundle.

    "silent" is a wrong image without an error, "crash" any exception that
    is not an `SdrtError` of one line.
    """

    mutation: Mutation
    kind: Kind
    message: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.mutation.description}: {self.message}"


def mutations(
    root: Path, *, count: int, seed: int, only: Callable[[str], bool] = lambda path: True
) -> Iterator[Mutation]:
    """Mutations of the files of the bundle at `root`, chosen at random, the same for a seed."""
    chance = random.Random(seed)
    files = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.stat().st_size  # locks are empty
    }
    paths = [path for path in files if only(path)]
    for _ in range(count):
        change = chance.choices(_CHANGES, weights=[6, 2, 2, 1, 1])[0]
        yield change(chance, files, chance.choice(paths))


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def usual_images(root: Path, target: str = "cpu") -> list[np.ndarray]:
    """The images of a bundle: of a prompt, and of a prompt with an image and a ControlNet."""
    plain = Image.new("RGB", (16, 16), (200, 40, 90))
    first = Request("a red circle", seed=1, num_inference_steps=2, width=16, height=16)
    with Pipeline.open(root, target, num_threads=1) as pipeline:
        control = dict.fromkeys(pipeline.bundle.controlnets, plain)
        second = replace(first, image=plain, control=control)
        return [_image(pipeline, request) for request in (first, second)]


def _image(pipeline: Pipeline, request: Request) -> np.ndarray:
    stream = pipeline.stream(request)  # a call would warn that the size is unusual
    for _ in stream:
        pass
    return np.asarray(stream.result.images[0])


def outcome_of(
    root: Path, mutation: Mutation, expected: list[np.ndarray], target: str = "cpu"
) -> Outcome:
    """The outcome of generating with the bundle while it is damaged."""
    with damaged(root, mutation):
        try:
            images = usual_images(root, target)
        except SdrtError as error:
            lines = str(error).splitlines()
            return Outcome(mutation, "refused" if len(lines) == 1 else "crash", str(error))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return Outcome(mutation, "crash", repr(error))
    same = all(np.array_equal(*pair) for pair in zip(images, expected, strict=True))
    return Outcome(mutation, "same" if same else "silent")


@contextmanager
def damaged(root: Path, mutation: Mutation) -> Iterator[None]:
    """The bundle with this damage in the block."""
    before = {path: (root / path).read_bytes() for path in mutation.contents}
    try:
        _write(root, mutation.contents)
        yield
    finally:
        _write(root, before)


def _write(root: Path, contents: Mapping[str, Content]) -> None:
    for path, content in contents.items():
        (root / path).unlink(missing_ok=True)  # never in place: engines map files
        if content is not None:
            (root / path).write_bytes(content)


def _flip(chance: random.Random, files: Mapping[str, bytes], path: str) -> Mutation:
    bit = chance.randrange(8 * len(files[path]))
    return Mutation(f"bit {bit} of {path}", {path: flipped(files[path], bit)})


def _truncate(chance: random.Random, files: Mapping[str, bytes], path: str) -> Mutation:
    size = chance.randrange(len(files[path]))
    return Mutation(f"{path} cut to {size} bytes", {path: files[path][:size]})


def _swap(chance: random.Random, files: Mapping[str, bytes], path: str) -> Mutation:
    other = chance.choice([each for each in files if each != path])
    return Mutation(f"{path} and {other} exchanged", {path: files[other], other: files[path]})


def _delete(chance: random.Random, files: Mapping[str, bytes], path: str) -> Mutation:
    return Mutation(f"{path} deleted", {path: None})


def _extend(chance: random.Random, files: Mapping[str, bytes], path: str) -> Mutation:
    more = chance.randbytes(chance.randrange(1, 100))
    return Mutation(f"{path} and {len(more)} bytes more", {path: files[path] + more})


_CHANGES = (_flip, _truncate, _swap, _delete, _extend)
