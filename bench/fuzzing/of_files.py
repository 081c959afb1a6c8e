"""Files from strangers: images of every kind, outputs that cannot be, bundles made to harm."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fuzzing.bundles import Place, resealed
from fuzzing.outcomes import Case, child, command, judged
from sdrt.bundle.manifest import MANIFEST_NAME
from support.onnx_writer import onnx_model
from support.toy_bundle import NODES, SIGNATURES

Change = Callable[[dict[str, Any]], object]

# --- images and outputs


def images(place: Place) -> Iterator[Case]:
    """Each as the start, the mask, the control image, and the source of parameters."""
    folder = place.work / "images"
    folder.mkdir(exist_ok=True)
    sources = _written_images(folder)
    for path in sources:
        for option in ("--image", "--mask", "--control", "--from-image"):
            ran = command(*_words_for(place, option, path), seconds=10)
            yield judged(f"{option} {path.name}", ran)


def _words_for(place: Place, option: str, path: Path) -> list[object]:
    base = ["run", place.toy(), "a", "--steps", "2", "--target", "cpu", "-o", place.work / "o.png"]
    match option:
        case "--mask":
            return [*base, "--image", place.image(), "--mask-image", path]
        case "--control":
            return [*base, "--resize", "crop", "--control", f"edges={path}"]
        case "--image":
            return [*base, "--width", "64", "--height", "64", "--resize", "crop", option, path]
    return [*base, option, path]


def _written_images(folder: Path) -> list[Path]:
    grey = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    good = Image.fromarray(np.stack([grey] * 3, axis=-1))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F"):
        suffix = "tif" if mode in ("CMYK", "YCbCr", "LAB", "F", "I") else "png"
        with suppress(OSError, ValueError):
            good.convert(mode).save(folder / f"{mode}.{suffix}")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "16bit.png")
    Image.fromarray(np.full((64, 64), np.nan, np.float32)).save(folder / "nan.tif")
    good.resize((1, 1)).save(folder / "1x1.png")
    good.resize((3000, 2)).save(folder / "strip.png")
    good.save(folder / "a.gif", save_all=True, append_images=[good.convert("L")])
    good.save(folder / "a.webp")
    content = _saved(good)
    for name, text in {
        "truncated.png": content[: len(content) // 2],
        "empty.png": b"",
        "text.png": b"not an image",
        "a.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "a.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "bomb.png": _png_of_size(60_000, 60_000),
    }.items():
        (folder / name).write_bytes(text)
    info = PngInfo()
    info.add_text("sdrt", "x" * 100_000_000, zip=True)
    good.save(folder / "text-bomb.png", pnginfo=info)
    (folder / "folder.png").mkdir(exist_ok=True)
    os.mkfifo(folder / "fifo.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "nowhere.png").symlink_to("none.png")
    devices = [Path("/dev/zero"), Path("/dev/null"), Path("/proc/self/mem"), Path("http://x/a.png")]
    return [*sorted(folder.iterdir()), *devices, Path("none.png"), Path("a\0b"), Path("x" * 300)]


def _saved(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def _png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99)))


def outputs(place: Place) -> Iterator[Case]:
    """Places that cannot be written, and those that must not be."""
    folder = place.work / "outputs"
    folder.mkdir(exist_ok=True)
    (folder / "taken.png").mkdir(exist_ok=True)
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "file").write_text("mine")
    names = (
        *("a.png", "new/a.png", "a.jpg", "a", "", "taken.png", "loop.png", "file/a.png", "ä日.png"),
        *("x" * 200 + ".png", "日" * 80 + ".png", "x" * 250 + ".png", "x" * 300 + ".png"),
        *("a\0b.png", "/dev/full", "/dev/null", "/proc/a.png", ".png", "%d.png", "\x1b[1m.png"),
    )
    base = ("run", place.toy(), "a", "--steps", "2", "--width", "64", "--height", "64")
    for name in names:
        ran = command(*base, "--target", "cpu", "-o", folder / name if name else "")
        case = judged(f"-o {name[:30]!r}", ran)
        yield Case(case.name, "broken", str(_hidden(folder))) if _hidden(folder) else case
    yield _output_is_input(place, folder, base)


def _output_is_input(place: Place, folder: Path, base: tuple[object, ...]) -> Case:
    mine = folder / "mine.png"
    mine.write_bytes(place.image().read_bytes())
    words = (*base[:5], "--image", mine, "--strength", "0.5", "--target", "cpu", "-o", mine)
    case = judged("-o is the --image", command(*words), success="silent")
    changed = mine.read_bytes() != place.image().read_bytes()
    return Case(case.name, "broken", "the input was replaced") if changed else case


def default_names(place: Place) -> Iterator[Case]:
    """Without -o: another image of the same seed stays."""
    folder = place.work / "names"
    folder.mkdir(exist_ok=True)
    here = Path.cwd()
    os.chdir(folder)
    try:
        for prompt in ("a", "b"):
            words = ("--steps", "2", "--seed", "7", "--width", "64", "--height", "64")
            ran = command("run", place.toy(), prompt, *words, "--target", "cpu")
            yield judged(f"prompt {prompt}", ran)
    finally:
        os.chdir(here)
    number = len(list(folder.glob("*.png")))
    yield Case("two images", "works" if number == 2 else "broken", f"{number} files")


def _hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*") if path.name != ".png"]


# --- bundles that someone made to harm

ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**400, 0.5, "", "a", "../../x", "/abs", ".", "a/b", "\x1b]0;x\x07"),
    *("\ud800", "x" * 300, "CON", [], [[]], {}, {"a": 1}),
)


def manifests(place: Place) -> Iterator[Case]:
    """Every field of the manifest with every odd value, all hashes right."""
    document = json.loads((place.toy() / MANIFEST_NAME).read_text())
    paths = [path for path in _paths(document) if path[0] not in ("digest",)]
    cases = [(path, value) for path in paths for value in ODD]
    for path, value in place.random.sample(cases, min(len(cases), place.times(400))):
        bundle = place.copy(place.toy())
        resealed(bundle, lambda document, path=path, value=value: _set(document, path, value))
        title = f"{'.'.join(map(str, path))} = {str(value)[:20]!r}"
        yield from _used(place, bundle, title, ("inspect", "run", "build"))


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places in a JSON value; of a list the first only."""
    if path:
        yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value[:1])
        if isinstance(value, list)
        else ()
    )
    for key, child_value in items:
        yield from _paths(child_value, (*path, key))


def _set(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


def _used(place: Place, bundle: Path, title: str, commands: tuple[str, ...]) -> Iterator[Case]:
    """The bundle used with each command; nothing may appear outside it."""
    outside = {path for path in bundle.parent.rglob("*") if bundle not in path.parents}
    for name in commands:
        words: list[object] = [name, bundle]
        if name == "run":
            size = ("--steps", "2", "--width", "64", "--height", "64")
            words += ["a", *size, "--target", "cpu", "-o", place.work / "o.png"]
        if name == "build":
            words += ["--target", "cpu", "-q"]
        case = judged(f"{title}, {name}", command(*words, seconds=30))
        found = {path for path in bundle.parent.rglob("*") if bundle not in path.parents} - outside
        if found:
            case = Case(case.name, "broken", f"outside the bundle: {sorted(map(str, found))[:2]}")
        yield case


def configurations(place: Place) -> Iterator[Case]:
    """Every field of the configurations with every odd value, all hashes right."""
    cases = []
    for file in sorted(place.toy().rglob("*.json")):
        if file.name != MANIFEST_NAME:
            paths = list(_paths(json.loads(file.read_text())))[:40]
            cases += [(file.relative_to(place.toy()), path, v) for path in paths for v in ODD]
    for name, path, value in place.random.sample(cases, min(len(cases), place.times(300))):
        bundle = place.copy(place.toy())
        document = json.loads((bundle / name).read_text())
        _set(document, path, value)
        (bundle / name).write_text(json.dumps(document))
        resealed(bundle)
        title = f"{name}: {'.'.join(map(str, path))[:30]} = {str(value)[:20]!r}"
        yield from _used(place, bundle, title, ("run",))


def small_files_that_harm(place: Place) -> Iterator[Case]:
    """Whole files: absurd JSON, a regular expression without end, huge and special files."""
    deep = "[" * 100_000 + "]" * 100_000
    evil = json.dumps({"type": "Split", "pattern": {"Regex": "(a*)*$(b"}, "behavior": "Removed"})
    for name in (
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        MANIFEST_NAME,
    ):
        for text in (
            "",
            "[]",
            "null",
            "NaN",
            "{",
            deep,
            '{"a": ' * 2000 + "1" + "}" * 2000,
            "\xff\xfe",
        ):
            bundle = place.copy(place.toy())
            (bundle / name).write_text(text, encoding="latin-1")
            if name != MANIFEST_NAME:
                resealed(bundle)
            yield from _used(place, bundle, f"{name} = {text[:10]!r}", ("run", "inspect"))
    bundle = place.copy(place.toy())
    (bundle / "tokenizer/tokenizer.json").write_text(
        f'{{"version": "1.0", "pre_tokenizer": {evil}}}'
    )
    resealed(bundle)
    yield from _used(place, bundle, "an unlisted tokenizer.json", ("run",))
    for name in (MANIFEST_NAME, "scheduler/scheduler_config.json", "unet/model.onnx"):
        yield from _special_files(place, name)


def _special_files(place: Place, name: str) -> Iterator[Case]:
    for kind in ("fifo", "device", "loop", "folder", "outside", "gigabyte"):
        bundle = place.copy(place.toy())
        path, elsewhere = bundle / name, place.work / "case" / "elsewhere"
        elsewhere.write_bytes(path.read_bytes())
        path.unlink()
        match kind:
            case "fifo":
                os.mkfifo(path)
            case "device":
                path.symlink_to("/dev/zero")
            case "loop":
                path.symlink_to(path.name)
            case "folder":
                path.mkdir()
            case "outside":
                elsewhere.write_bytes(b"{}")
                path.symlink_to(elsewhere)
            case "gigabyte":
                with path.open("wb") as file:
                    file.truncate(1 << 30)
        words = ("run", bundle, "a", "--steps", "2", "--target", "cpu", "-o", place.work / "o.png")
        yield judged(f"{name} is a {kind}", child(words, place.work, 20), success="silent")


def networks(place: Place) -> Iterator[Case]:
    """ONNX files made to read elsewhere, with wrong types, unknown operators, garbage."""
    signature, nodes = SIGNATURES["unet"], NODES["unet"]
    half = {"factor": np.array([0.5], np.float32)}
    for location in (
        "../../x",
        "/etc/passwd",
        "/dev/zero",
        "evil.bin",
        "../vae_decoder/model.onnx",
        ".",
    ):
        bundle = place.copy(place.toy())
        (bundle / "unet/evil.bin").write_bytes(half["factor"].tobytes())
        (bundle / "unet/model.onnx").write_bytes(onnx_model(signature, nodes, half, location))
        resealed(bundle)
        for target in ("cpu", "openvino"):
            words = ("run", bundle, "a", "--steps", "2", "--width", "64", "--height", "64")
            ran = command(*words, "--target", target, "-o", place.work / "o.png")
            yield judged(f"weights in {location}, {target}", ran, success="silent")
    network = (place.toy() / "unet/model.onnx").read_bytes()
    for title, content in {
        "garbage": b"\xff" * 500,
        "an unknown operator": onnx_model(signature, [("Nothing", ["sample"], ["out_sample"])]),
        "another network": (place.toy() / "vae_decoder/model.onnx").read_bytes(),
        "a long field": network[:20] + b"\xff" * 8 + network[20:],
        "wrong rank": onnx_model(signature, [("Flatten", ["sample"], ["out_sample"])]),
        "a huge tensor": onnx_model(
            signature,
            [("Expand", ["sample", "size"], ["out_sample"])],
            {"size": np.full(4, 1 << 40)},
        ),
    }.items():
        bundle = place.copy(place.toy())
        (bundle / "unet/model.onnx").write_bytes(content)
        resealed(bundle)
        yield from _used(place, bundle, title, ("run",))
