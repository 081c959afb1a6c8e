"""Damaged bundles: files changed at random, the manifest changed bit by bit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from fuzzing.bundles import (
    Place,
    drawn,
    files_of,
    mutation,
    references,
    replaced,
    requests,
    worst_drawn,
)
from fuzzing.outcomes import Case, call, judged
from sdrt.bundle.manifest import MANIFEST_NAME, Manifest

SMALL = (".json", ".txt")


def files_of_the_demo(place: Place) -> Iterator[Case]:
    """Every file of the demo with graphs for the cpu; each case draws from text, image, control."""
    yield from _changed_files(place, place.demo(), place.times(50))


def files_of_the_toy(place: Place) -> Iterator[Case]:
    yield from _changed_files(place, place.toy_prepared(), place.times(240))


def small_files(place: Place) -> Iterator[Case]:
    """JSON and text alone."""
    yield from _changed_files(place, place.toy_prepared(), place.times(300), small=True)


def files_on_openvino(place: Place) -> Iterator[Case]:
    from importlib.util import find_spec

    if find_spec("openvino"):
        yield from _changed_files(place, place.toy(), place.times(80), target="openvino")


def _changed_files(
    place: Place, bundle: Path, number: int, *, small: bool = False, target: str = "cpu"
) -> Iterator[Case]:
    right = references(place, bundle, target)
    files = [path for path in files_of(bundle) if not small or path.suffix in SMALL]
    for _ in range(number):
        path = place.random.choice(files)
        before = path.read_bytes()
        name, content = mutation(place.random, before, [each for each in files if each != path])
        if content == before:
            continue
        with replaced(path, content):
            title = f"{path.relative_to(bundle)}: {name}"
            yield worst_drawn(title, place, bundle, right, target)


def the_manifest_alone(place: Place) -> Iterator[Case]:
    """The manifest changed or deleted; a bundle that lost it draws nothing else."""
    bundle = place.toy_prepared()
    right = references(place, bundle)
    path = bundle / MANIFEST_NAME
    others = [each for each in files_of(bundle) if each != path]
    for number in range(place.times(130)):
        name, content = mutation(place.random, path.read_bytes(), others)
        content = None if number == 0 else content
        if content == path.read_bytes():
            continue
        with replaced(path, content):
            title = "deleted" if content is None else name
            yield worst_drawn(f"{MANIFEST_NAME}: {title}", place, bundle, right)


def bits_of_the_manifest(place: Place) -> Iterator[Case]:
    """Single bits, the manifest only parsed: another one must not come out."""
    text = (place.toy() / MANIFEST_NAME).read_bytes()
    right = Manifest.from_json(text)
    for _ in range(place.times(20_000)):
        yield _with_bit(text, place.random.randrange(8 * len(text)), right)


def bits_of_the_defaults(place: Place) -> Iterator[Case]:
    text = (place.toy() / MANIFEST_NAME).read_bytes()
    right = Manifest.from_json(text)
    begin = text.index(b'"defaults"')
    end = text.index(b"}", begin) + 1
    for bit in range(8 * begin, 8 * end):
        yield _with_bit(text, bit, right)


def _with_bit(text: bytes, bit: int, right: Manifest) -> Case:
    changed = bytearray(text)
    changed[bit // 8] ^= 1 << bit % 8
    ran = call(Manifest.from_json, bytes(changed))
    return judged(f"bit {bit}", ran, success="identical" if ran.value == right else "silent")


def a_lost_manifest(place: Place) -> Iterator[Case]:
    """Without its manifest, and a weight changed: nothing is drawn that nobody checked."""
    for bundle in (place.toy(), place.demo()):
        (bundle / MANIFEST_NAME).rename(bundle / "kept.json")
        try:
            for name, options in requests(place).items():
                ran = drawn(place, bundle, options)
                yield judged(f"{bundle.name} without manifest, {name}", ran, success="silent")
        finally:
            (bundle / "kept.json").rename(bundle / MANIFEST_NAME)


def swapped_manifests(place: Place) -> Iterator[Case]:
    """A good manifest of another bundle."""
    bundle, other = place.toy_prepared(), place.demo()
    right = references(place, bundle)
    for source in (other, place.toy()):
        with replaced(bundle / MANIFEST_NAME, (source / MANIFEST_NAME).read_bytes()):
            yield worst_drawn(f"manifest of {source.name}", place, bundle, right)


def opened_then_overwritten(place: Place) -> Iterator[Case]:
    """A file replaced by rename while the bundle is open: a later open refuses it."""
    import sdrt

    bundle = place.copy(place.toy())
    for target in ("cpu", "openvino"):
        try:
            pipe = sdrt.Pipeline.open(bundle, target)
        except sdrt.SdrtError:
            continue
        call(partial(pipe, "a", seed=7, num_inference_steps=2, width=64, height=64))
        changed = bytearray((bundle / "unet/model.onnx_data").read_bytes())
        changed[0] ^= 1
        with replaced(bundle / "unet/model.onnx_data", bytes(changed)):
            ran = call(partial(pipe, "a", seed=7, num_inference_steps=2, width=64, height=128))
            yield judged(f"{target}: open, then exchanged", ran)
            ran = drawn(place, bundle, [], target)
            yield judged(f"{target}: exchanged, then opened", ran, success="silent")
        pipe.close()
