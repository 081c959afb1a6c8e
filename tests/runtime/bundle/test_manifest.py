from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdrt.bundle.manifest import (
    Component,
    FileRecord,
    Manifest,
    Merged,
    Parity,
    sealed,
    write_manifest,
)
from sdrt.errors import BundleError
from sdrt.families.family import DenoiserFacts, Encoder, Family, LatentSpace, TextRecipe
from sdrt_engines import Signature
from support.onnx_writer import spec

MODEL = FileRecord("unet/model.onnx", "0123456789abcdef" * 4, 1000)
UNET = Component(
    name="unet",
    role="denoiser",
    model="unet/model.onnx",
    signature=Signature(
        (spec("sample", "float32", "B", 4, "h", "w"), spec("timestep", "int64")),
        (spec("out_sample", "float16", "B", 4, "h", "w"),),
    ),
    precision="float32",
    files=(MODEL, FileRecord("unet/model.onnx_data", "f" * 64, 2**40)),
    parity=Parity(max_abs=1e-6, psnr=120.5),
    takes=frozenset({"residuals"}),
)
FAMILY = Family(
    name="stable-diffusion-1",
    text=TextRecipe((Encoder("text_encoder", "tokenizer", layer=-2, pooled="p"),), pooled=(0,)),
    latents=LatentSpace(4, 8, 0.18215, mean=(0.0, 1.0, 2.0, 3.0), std=(1.0,) * 4),
    denoiser=DenoiserFacts(extra_channels="mask", time_ids=("crop",)),
    defaults={"guidance_scale": 7.5, "num_inference_steps": 50, "height": 512, "width": 512},
    scheduler={"steps_offset": 1},
)
MANIFEST = Manifest(
    family=FAMILY,
    components=(
        UNET,
        replace(UNET, name="vae", variant="tiny", latents=LatentSpace(4, 8, 1.0), parity=None),
        replace(UNET, name="controlnet_edges", source="edges", tools={"torch": "2.14.0"}),
    ),
    files=(FileRecord("tokenizer/größe.json", "0" * 64, 0),),
    source="a red circle: größer",
    tools={"torch": "2.13.0", "diffusers": "0.39.0"},
    created="2025-11-20T23:00:00+00:00",
    defaults={"guidance_scale": 5.0},
    merged=(Merged("lora", "größe v1.1", "a" * 64, "0123456789ab", scale=-0.5),),
)


def paths_into(value: Any, *keys: Any) -> Iterator[tuple[Any, ...]]:
    """The keys to everything inside a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield (*keys, key)
        if isinstance(inner, dict | list):
            yield from paths_into(inner, *keys, key)


def damaged(keys: tuple[Any, ...], value: Any) -> str:
    """The manifest's text with another value at `keys`, or without it for `...`; sealed."""
    document = parent = json.loads(MANIFEST.to_json())
    for key in keys[:-1]:
        parent = parent[key]
    parent[keys[-1]] = value
    if value is ...:
        del parent[keys[-1]]
    return json.dumps(document if keys == ("digest",) else sealed(document))


def test_what_is_written_is_read() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST
    assert Manifest.from_json(MANIFEST.to_json().encode()) == MANIFEST


def test_equal_outputs_have_an_infinite_psnr() -> None:
    exact = replace(MANIFEST, components=(replace(UNET, parity=Parity(0.0, math.inf)),))
    assert json.loads(exact.to_json())["components"][0]["parity"]["psnr"] is None
    assert Manifest.from_json(exact.to_json()) == exact


def test_a_source_of_any_bytes_is_written(tmp_path: Path) -> None:
    odd = replace(MANIFEST, source=b"runs/\xff".decode(errors="surrogateescape"))
    write_manifest(tmp_path, odd)
    assert Manifest.from_json((tmp_path / "sdrt.json").read_bytes()) == odd


def test_the_text_is_made_for_reading() -> None:
    text = MANIFEST.to_json()
    assert '\n  "source": "a red circle: größer",\n' in text
    assert "größer" in text
    keys = list(json.loads(text))
    assert keys == sorted(keys)


def test_a_change_is_noticed() -> None:
    text = MANIFEST.to_json()
    for before, after in (("7.5", "8.5"), ("unet/model", "unet/Model"), ('"takes"', '"taken"')):
        assert before in text
        with pytest.raises(BundleError, match=r"digest: got '[0-9a-f]{64}', but the rest has ch"):
            Manifest.from_json(text.replace(before, after, 1))
    Manifest.from_json(json.dumps(json.loads(text)))  # its layout is not guaranteed


def test_an_older_format_is_exported_again() -> None:
    document = {"format_version": 1, "family": "stable-diffusion-1", "source": "runs/a model"}
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(json.dumps(document))
    assert str(caught.value) == (
        "sdrt.json: format_version: got 1, expected 2: export it again with "
        "`sdrt export 'runs/a model' -o NEW_BUNDLE`"
    )


COMPONENT = ("components", 0)
FILE = (*COMPONENT, "files", 0)
MERGED = ("merged", 0)
TENSOR = (*COMPONENT, "signature", "inputs", 0)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("format_version",), 3, "format_version: got 3, expected 2: use the sdrt version that"),
        (("format_version",), "1", 'format_version: got "1", expected an integer'),
        (("format_version",), ..., "format_version: missing"),
        (("digest",), ..., "digest: missing"),
        (("later",), 1, "later: unknown field"),
        (("sources",), 1, "sources: unknown field, did you mean 'source'?"),
        (("family",), "", 'family: got "", expected an object'),
        (("family", "name"), None, "family.name: got null, expected a string"),
        (("family", "denoiser", "guidance"), "cfg", "family.denoiser.guidance: got 'cfg'"),
        (("family", "denoiser", "later"), 1, "family.denoiser.later: unknown field"),
        (("family", "latents", "channels"), 0, "latents: channels: got 0, expected 1 to 65536"),
        (("family", "latents", "channels"), 10**19, "channels: got 10000000000000000000, expected"),
        (("family", "latents", "std"), [1.0], "latents: std: got 1 numbers, expected one for ea"),
        (("family", "text", "pooled"), [1], "got encoder 1, expected one of 1"),
        (("family", "text", "context"), [[]], "context: got an empty group"),
        (("family", "defaults", "width"), "x", "family: defaults.width: got 'x', expected a whole"),
        (("family", "defaults", "width"), True, "family: defaults.width: got True, expected a wh"),
        (("family", "defaults", "height"), 512.5, "defaults.height: got 512.5, expected a whole"),
        (("family", "latents", "scaling_factor"), None, "scaling_factor: got null, expected a nu"),
        (("family", "latents", "scaling_factor"), 10**400, "scaling_factor: got 1000"),
        (("family", "text", "encoders", 0, "tokenizer"), "../x", "tokenizer: got '../x', expected"),
        (("defaults", "guidance_scale"), None, "defaults.guidance_scale: got None, expected a n"),
        (("defaults", "schedulr"), 3, "defaults.schedulr: unknown, known: "),
        (("family",), ..., "family: missing"),
        (("source",), 3, "source: got 3, expected a string"),
        (("created",), "yesterday", "created: got 'yesterday', expected a date and time"),
        (("tools",), [], "tools: got [], expected an object"),
        (("tools", "torch"), 2, "tools.torch: got 2, expected a string"),
        (("defaults",), [], "defaults: got [], expected an object"),
        (("files",), {}, "files: got {}, expected an array"),
        (("files", 0), "x", 'files[0]: got "x", expected an object'),
        (("components",), [], "components: got [], expected at least one, each name once"),
        (
            ("components", 1, "name"),
            "unet",
            "components: got ['unet', 'unet', 'controlnet_edges'], exp",
        ),
        (
            ("components", 1, "name"),
            "UNet",  # the same folder on Windows and macOS
            "components: got ['unet', 'UNet', 'controlnet_edges'], expected at least one, each na",
        ),
        ((*COMPONENT, "name"), ..., "components[0].name: missing"),
        ((*COMPONENT, "role"), "denoise", "components[0].role: got 'denoise', did you mean 'den"),
        ((*COMPONENT, "role"), ..., "components[0].role: missing"),
        (
            (*COMPONENT, "name"),
            "../x",
            "components[0]: name: got '../x', expected a name of at most 100 letters",
        ),
        (
            (*COMPONENT, "name"),
            "x" * 101,
            f"components[0]: name: got '{'x' * 100}', expected a name",
        ),
        ((*COMPONENT, "name"), "..", "components[0]: name: got '..', expected a name of at most"),
        ((*COMPONENT, "role"), "controlnet", "name: got 'unet', expected 'controlnet_unet'"),
        ((*MERGED, "kind"), "loras", "merged[0].kind: got 'loras', did you mean 'lora'?"),
        ((*MERGED, "sha256"), "f" * 63, "merged[0]: sha256: got 'fff"),
        ((*MERGED, "short_hash"), "f" * 10, "short_hash: got 'ffffffffff', expected 12 hexadec"),
        ((*MERGED, "scale"), None, "merged[0].scale: got null, expected a number"),
        ((*COMPONENT, "takes"), "x", 'components[0].takes: got "x", expected an array'),
        ((*COMPONENT, "later"), 1, "components[0].later: unknown field"),
        ((*COMPONENT, "model"), "x", "components[0]: model: got 'x', expected one of the comp"),
        ((*COMPONENT, "precision"), 16, "components[0].precision: got 16, expected a string"),
        ((*COMPONENT, "parity", "max_abs"), -1, "parity: max_abs: got -1.0, expected a finite"),
        ((*COMPONENT, "parity", "max_abs"), None, "parity.max_abs: got null, expected a number"),
        ((*COMPONENT, "parity", "psnr"), "1", 'components[0].parity.psnr: got "1", expected a n'),
        ((*COMPONENT, "parity"), 1, "components[0].parity: got 1, expected an object"),
        ((*COMPONENT, "signature", "inputs"), ..., "components[0].signature.inputs: missing"),
        ((*TENSOR, "name"), "timestep", "signature: a signature has two inputs named 'timestep'"),
        ((*TENSOR, "dtype"), "float23", "inputs[0].dtype: got 'float23', did you mean 'float32'?"),
        ((*TENSOR, "shape"), "B", 'inputs[0].shape: got "B", expected an array'),
        ((*TENSOR, "shape", 1), 0, "inputs[0]: tensor 'sample': a dimension is a positive int"),
        ((*FILE, "size"), -1, "components[0].files[0]: size: got -1, expected a number of bytes"),
        ((*FILE, "size"), True, "components[0].files[0].size: got true, expected an integer"),
        ((*FILE, "size"), 1.5, "components[0].files[0].size: got 1.5, expected an integer"),
        ((*FILE, "sha256"), "F" * 64, "files[0]: sha256: got 'FFFF"),
        ((*FILE, "sha256"), "f" * 63, "expected 64 hexadecimal digits"),
        ((*FILE, "sha256"), None, "'unet/model.onnx' has no sha256: export it again"),
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
        ('{"format_version": 2, "digest": "x", "created": 1e999}', "digest: got 'x', but the rest"),
        ('{"format_version": NaN}', "sdrt.json: not valid JSON (NaN is not JSON)"),
        ('{"format_version": 1e999}', "format_version: got Infinity, expected an integer"),
    ],
    ids=["empty", "truncated", "binary", "deep", "array", "inner infinity", "nan", "infinity"],
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
    with pytest.raises(BundleError, match="psnr: got nan"):
        Parity(0.1, math.nan)


PATHS = list(paths_into(json.loads(MANIFEST.to_json())))
REQUIRED = {
    *("format_version", "digest", "family", "components", "files", "created"),
    *("name", "role", "model", "signature", "precision", "path", "sha256", "size"),
    *("kind", "short_hash"),
    *("inputs", "outputs", "dtype", "shape", "max_abs", "psnr"),
    *("text", "latents", "denoiser", "encoders", "component", "tokenizer"),
    *("channels", "vae_scale_factor", "scaling_factor"),
}
REQUIRED_AT = (("source",), ("tools",))  # a component's own may be absent
OPTIONAL_AT = (("components", 1, "latents"),)  # those of a tiny VAE
OF_THE_DEFAULTS = ("family", "defaults")  # all four are needed, and reported with their values


@pytest.mark.parametrize("keys", [keys for keys in PATHS if isinstance(keys[-1], str)])
def test_a_missing_field_is_named(keys: tuple[Any, ...]) -> None:
    needed = (keys[-1] in REQUIRED or keys in REQUIRED_AT) and keys not in OPTIONAL_AT
    expected = rf"{keys[-1]}: missing$" if needed else r"defaults\.\w+: missing$"
    if needed or keys[:2] == OF_THE_DEFAULTS:
        with pytest.raises(BundleError, match=expected):
            Manifest.from_json(damaged(keys, ...))
    elif keys != ("family", "text", "encoders", 0, "pooled"):  # which the recipe reads
        Manifest.from_json(damaged(keys, ...))


@pytest.mark.parametrize("value", [None, True, -1, 1.5, 10**30, "", "x", [], {}, [None], {"": []}])
def test_no_value_surprises_the_reader(value: Any) -> None:
    for keys in PATHS:
        with suppress(BundleError):  # any other error is a failure
            manifest = Manifest.from_json(damaged(keys, value))
            assert Manifest.from_json(manifest.to_json()) == manifest
