from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from sdrt.bundle.manifest import Component, FileRecord, Manifest, Parity
from sdrt.errors import BundleError
from sdrt_engines import Signature
from support.onnx_writer import spec

MODEL = FileRecord("unet/model.onnx", "0123456789abcdef" * 4, 1000)
UNET = Component(
    name="unet",
    model="unet/model.onnx",
    signature=Signature(
        (spec("sample", "float32", "B", 4, "h", "w"), spec("timestep", "int64")),
        (spec("out_sample", "float16", "B", 4, "h", "w"),),
    ),
    precision="float32",
    files=(MODEL, FileRecord("unet/model.onnx_data", "f" * 64, 2**40)),
    parity=Parity(max_abs=1e-6, psnr=120.5),
)
MANIFEST = Manifest(
    family="stable-diffusion-1",
    components=(
        UNET,
        replace(UNET, name="vae_decoder", parity=None),
        replace(UNET, name="controlnet_edges", source="edges", tools={"torch": "2.14.0"}),
    ),
    files=(FileRecord("tokenizer/größe.json", "0" * 64, 0),),
    source="a red circle: größer",
    tools={"torch": "2.13.0", "diffusers": "0.39.0"},
    created="2025-11-20T23:00:00+00:00",
    defaults={"guidance_scale": 5.0},
)


def paths_into(value: Any, *keys: Any) -> Iterator[tuple[Any, ...]]:
    """The keys to everything inside a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield (*keys, key)
        if isinstance(inner, dict | list):
            yield from paths_into(inner, *keys, key)


def damaged(keys: tuple[Any, ...], value: Any) -> str:
    """The manifest's text with another value at `keys`, or with nothing there for `...`."""
    document = parent = json.loads(MANIFEST.to_json())
    for key in keys[:-1]:
        parent = parent[key]
    parent[keys[-1]] = value
    if value is ...:
        del parent[keys[-1]]
    return json.dumps(document)


def test_what_is_written_is_read() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST
    assert Manifest.from_json(MANIFEST.to_json().encode()) == MANIFEST


def test_equal_outputs_have_an_infinite_psnr() -> None:
    exact = replace(MANIFEST, components=(replace(UNET, parity=Parity(0.0, math.inf)),))
    assert json.loads(exact.to_json())["components"][0]["parity"]["psnr"] is None
    assert Manifest.from_json(exact.to_json()) == exact


def test_the_text_is_made_for_reading() -> None:
    text = MANIFEST.to_json()
    assert '\n  "family": "stable-diffusion-1",\n' in text
    assert "größer" in text
    keys = list(json.loads(text))
    assert keys == sorted(keys)


def test_fields_of_later_versions_are_skipped() -> None:
    document = json.loads(MANIFEST.to_json())
    document["later"] = document["components"][0]["later"] = {"x": 1}
    assert Manifest.from_json(json.dumps(document)) == MANIFEST


COMPONENT = ("components", 0)
FILE = (*COMPONENT, "files", 0)
TENSOR = (*COMPONENT, "signature", "inputs", 0)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("format_version",), 2, "format_version: got 2, this sdrt reads 1: use the sdrt that"),
        (("format_version",), "1", 'format_version: got "1", expected an integer'),
        (("format_version",), ..., "format_version: missing"),
        (("family",), "", 'family: got "", expected a text'),
        (("family",), None, "family: got null, expected a text"),
        (("family",), ..., "family: missing"),
        (("source",), 3, "source: got 3, expected a text"),
        (("created",), "yesterday", "created: got 'yesterday', expected a date and time"),
        (("tools",), [], "tools: got [], expected an object"),
        (("tools", "torch"), 2, "tools.torch: got 2, expected a text"),
        (("defaults",), ..., "defaults: missing"),
        (("files",), {}, "files: got {}, expected an array"),
        (("files", 0), "x", 'files[0]: got "x", expected an object'),
        (("components",), [], "components: got [], expected at least one, each name once"),
        (
            ("components", 1, "name"),
            "unet",
            "components: got ['unet', 'unet', 'controlnet_edges'], exp",
        ),
        ((*COMPONENT, "name"), ..., "components[0].name: missing"),
        ((*COMPONENT, "model"), "x", "components[0]: model: got 'x', expected one of the comp"),
        ((*COMPONENT, "precision"), 16, "components[0].precision: got 16, expected a text"),
        ((*COMPONENT, "parity", "max_abs"), -1, "parity: max_abs: got -1.0, expected a finite"),
        ((*COMPONENT, "parity", "max_abs"), None, "parity.max_abs: got null, expected a number"),
        ((*COMPONENT, "parity", "psnr"), "1", 'components[0].parity.psnr: got "1", expected a n'),
        ((*COMPONENT, "parity"), 1, "components[0].parity: got 1, expected an object"),
        ((*COMPONENT, "signature", "inputs"), ..., "components[0].signature.inputs: missing"),
        ((*TENSOR, "name"), "timestep", "signature: a signature has two inputs named 'timestep'"),
        ((*TENSOR, "dtype"), "float23", "inputs[0]: dtype: got 'float23', did you mean 'float32'?"),
        ((*TENSOR, "shape"), "B", 'inputs[0].shape: got "B", expected an array'),
        ((*TENSOR, "shape", 1), 0, "inputs[0]: tensor 'sample': a dimension is a positive int"),
        ((*FILE, "size"), -1, "components[0].files[0]: size: got -1, expected a number of bytes"),
        ((*FILE, "size"), True, "components[0].files[0].size: got true, expected an integer"),
        ((*FILE, "size"), 1.5, "components[0].files[0].size: got 1.5, expected an integer"),
        ((*FILE, "sha256"), "F" * 64, "files[0]: sha256: got 'FFFF"),
        ((*FILE, "sha256"), "f" * 63, "expected 64 hexadecimal digits"),
        ((*FILE, "sha256"), None, "components[0].files[0].sha256: got null, expected a text"),
    ],
)
def test_every_malformed_field_is_named(keys: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(damaged(keys, value))
    assert str(caught.value).startswith("sdrt.json: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "sdrt.json: not valid JSON"),
        (MANIFEST.to_json()[:-5], "sdrt.json: not valid JSON"),
        (b"\xff\xfe\x00", "sdrt.json: not valid JSON"),
        ("[" * 100_000, "sdrt.json: not valid JSON"),
        ("[]", "sdrt.json: got [], expected an object"),
        ('{"format_version": NaN}', "sdrt.json: not valid JSON (NaN is not JSON)"),
        ('{"format_version": 1e999}', "format_version: got Infinity, expected an integer"),
    ],
    ids=["empty", "truncated", "binary", "deep", "array", "nan", "infinity"],
)
def test_a_text_that_is_no_manifest(text: str | bytes, message: str) -> None:
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../x", "unet/../../x", "unet/..", "C:/x", "c:x", "unet\\x", "", ".", "a\0b"],
)
def test_a_file_record_stays_in_its_bundle(path: str) -> None:
    with pytest.raises(BundleError, match="expected a path inside the bundle, with slashes"):
        FileRecord(path, "0" * 64, 1)


@pytest.mark.parametrize("path", ["model_index.json", "unet/model.onnx", "a/..b/c..", "a b/ü"])
def test_ordinary_paths_are_taken(path: str) -> None:
    assert FileRecord(path, None, 1).path == path


def test_parity_is_a_distance() -> None:
    with pytest.raises(BundleError, match="max_abs: got nan"):
        Parity(math.nan, 100)
    with pytest.raises(BundleError, match="psnr: got NaN"):
        Parity(0.1, math.nan)


PATHS = list(paths_into(json.loads(MANIFEST.to_json())))
OWN = (("components", 2, "source"), ("components", 2, "tools"))  # else they are the manifest's
MAY_BE_ABSENT = ("parity", "psnr", "torch", "diffusers", "guidance_scale")


@pytest.mark.parametrize("keys", [keys for keys in PATHS if isinstance(keys[-1], str)])
def test_a_missing_field_is_named(keys: tuple[Any, ...]) -> None:
    if keys[-1] in MAY_BE_ABSENT or keys in OWN:
        Manifest.from_json(damaged(keys, ...))
    else:
        with pytest.raises(BundleError, match=rf"{keys[-1]}: missing$"):
            Manifest.from_json(damaged(keys, ...))


@pytest.mark.parametrize("value", [None, True, -1, 1.5, 10**30, "", "x", [], {}, [None], {"": []}])
def test_no_value_surprises_the_reader(value: Any) -> None:
    for keys in PATHS:
        with suppress(BundleError):  # any other error is a failure
            manifest = Manifest.from_json(damaged(keys, value))
            assert Manifest.from_json(manifest.to_json()) == manifest
