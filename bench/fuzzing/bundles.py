"""The bundles that cases break: the toy and the demo, mutated, sealed again, and drawn with."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fuzzing.outcomes import Case, Ran, command, judged
from sdrt.bundle.manifest import MANIFEST_NAME, sealed
from support.toy_bundle import write_toy_bundle

PROMPT = "a red circle"
CONTROLNET = "edges"


@dataclass
class Place:
    """The folder, random numbers and bundles of a run."""

    work: Path
    random: random.Random
    share: float  # of the full number of cases
    made: dict[str, Path] = field(default_factory=dict)

    def times(self, number: int) -> int:
        """The number of cases of an area at this size."""
        return max(4, round(number * self.share))

    def toy(self) -> Path:
        return self.once("toy", lambda path: write_toy_bundle(path))

    def toy_prepared(self) -> Path:
        """A toy built for the cpu."""
        return self.once("toy_prepared", _prepared_toy)

    def demo(self) -> Path:
        """The demo's bundle, built for the cpu."""
        return self.once("demo", _prepared_demo)

    def image(self) -> Path:
        return self.once("image.png", lambda path: _gradient().save(path))

    def mask(self) -> Path:
        return self.once("mask.png", lambda path: _square().save(path))

    def copy(self, bundle: Path, name: str = "b") -> Path:
        """A copy to break, in the place of the one before."""
        target = self.work / "case" / name
        shutil.rmtree(self.work / "case", ignore_errors=True)
        return Path(shutil.copytree(bundle, target, symlinks=True))

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        if name not in self.made:
            self.made[name] = self.work / name
            make(self.work / name)
        return self.made[name]


def _prepared_toy(path: Path) -> None:
    write_toy_bundle(path)
    _build(path)


def _prepared_demo(path: Path) -> None:
    import sdrt

    shutil.copytree(Path(sdrt.__file__).parent / "demo_bundle", path)
    _build(path)


def _build(path: Path) -> None:
    ran = command("build", path, "--target", "cpu", seconds=300)
    if ran.code != 0:
        raise RuntimeError(f"{path} was not built: {ran}")


def _gradient() -> Image.Image:
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    return Image.fromarray(np.stack([4 * x, 4 * y, 255 - 4 * x], axis=-1).astype(np.uint8))


def _square() -> Image.Image:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    return mask


# --- drawing


def requests(place: Place) -> Mapping[str, list[str]]:
    """The three ways of a request, each through other networks."""
    image = str(place.image())
    return {
        "text": [],
        "image": ["--image", image, "--strength", "0.5"],
        "control": ["--control", f"{CONTROLNET}={image}"],
    }


def drawn(place: Place, bundle: Path, options: list[str], target: str = "cpu") -> Ran:
    """A run of two steps; its value is the image's bytes."""
    output = place.work / "drawn.png"
    output.unlink(missing_ok=True)
    words = ("--steps", "2", "--seed", "7", "--width", "64", "--height", "64")
    size = words if "--image" not in options else words[:4]
    target_and_output = ("--target", target, "-o", output)
    ran = command("run", bundle, PROMPT, *size, *options, *target_and_output, seconds=60)
    image = output.read_bytes() if output.exists() else b""
    return Ran(ran.code, ran.out, ran.err, ran.raised, ran.hung, image)


def pixels(content: bytes) -> bytes:
    from io import BytesIO

    with Image.open(BytesIO(content)) as image:
        return image.tobytes()


def references(place: Place, bundle: Path, target: str = "cpu") -> dict[str, bytes]:
    """The right image of each request."""
    found = {}
    for name, options in requests(place).items():
        ran = drawn(place, bundle, options, target)
        if ran.code != 0:
            raise RuntimeError(f"{bundle}: the unchanged bundle does not run: {ran}")
        found[name] = pixels(ran.value)
    return found


def worst_drawn(
    name: str, place: Place, bundle: Path, right: Mapping[str, bytes], target: str = "cpu"
) -> Case:
    """The worst case of the requests: silent before traceback before unclear before clear."""
    order = ("silent", "signal", "hang", "broken", "traceback", "unclear", "clear", "identical")
    cases = []
    for way, options in requests(place).items():
        ran = drawn(place, bundle, options, target)
        same = bool(ran.value) and ran.code == 0 and pixels(ran.value) == right[way]
        case = judged(f"{name}, {way}", ran, success="identical" if same else "silent")
        cases.append(case)
        if case.kind in order[:6]:
            break
    return min(cases, key=lambda case: order.index(case.kind))


# --- mutations


def files_of(bundle: Path) -> list[Path]:
    return sorted(path for path in bundle.rglob("*") if path.is_file() and path.name != ".lock")


MUTATIONS = ("bit", "byte", "truncate", "append", "zeros", "empty", "delete", "swap")


def mutation(random: random.Random, content: bytes, others: list[Path]) -> tuple[str, bytes | None]:
    """A change of a file, and what it then holds; None: it is deleted."""
    kind = random.choice(MUTATIONS if content else ("append", "delete", "swap"))
    changed, at = bytearray(content), random.randrange(len(content) or 1)
    match kind:
        case "bit":
            changed[at] ^= 1 << random.randrange(8)
        case "byte":
            changed[at] = random.randrange(256)
        case "truncate":
            del changed[at:]
        case "append":
            changed += random.randbytes(random.choice((1, 100)))
        case "zeros":
            changed[at : at + 64] = bytes(len(changed[at : at + 64]))
        case "empty":
            changed.clear()
        case "swap":
            changed[:] = random.choice(others).read_bytes()
    return f"{kind} at {at}", None if kind == "delete" else bytes(changed)


@contextmanager
def replaced(path: Path, content: bytes | None) -> Iterator[None]:
    """Another content in the place of a file, which comes back afterwards.

    Both by rename: a network that is still mapped keeps its file.
    """
    kept = path.with_name(f"{path.name}.kept")
    path.rename(kept)
    if content is not None:
        path.write_bytes(content)
    try:
        yield
    finally:
        if path.is_dir():
            shutil.rmtree(path)
        kept.replace(path)


def resealed(bundle: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
    """Writes the manifest as an attacker would: changed, with right hashes and digest."""
    path = bundle / MANIFEST_NAME
    document = json.loads(path.read_text())
    for record in _records(document):
        file = bundle / record["path"]
        if file.is_file():
            content = file.read_bytes()
            record |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    change(document)
    path.unlink()
    path.write_text(json.dumps(sealed(document)))


def _records(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from document["files"]
    for component in document["components"]:
        yield from component["files"]
