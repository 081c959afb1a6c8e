"""Embeddings in bundles: at export, and added to an existing bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sdrt.bundle.file_records import verify_file
from sdrt.bundle.folder import Bundle
from sdrt.command_line.main import main
from sdrt.errors import SdrtError
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt_engines import Array, engine_from_onnx
from sdrt_export.adding import add_to_bundle
from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.checkpoints.text_encoders import with_embeddings
from sdrt_export.component import export_part
from sdrt_export.errors import CheckpointError
from sdrt_export.networks.loading import parts_from_checkpoint
from support.command import run_python
from support.weights_files import write_weights

pytestmark = pytest.mark.export

RANDOM = np.random.default_rng(7)


def embedding(folder: Path, name: str, *widths: int, num_vectors: int = 3) -> Path:
    vectors = [RANDOM.standard_normal((num_vectors, width), np.float32) for width in widths]
    keys = ("emb_params",) if len(widths) == 1 else ("clip_l", "clip_g")
    return write_weights(folder / f"{name}.safetensors", dict(zip(keys, vectors, strict=True)))


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return embedding(tmp_path, "Bad Hands", 8)


@pytest.fixture
def plain(bundle: Path, tmp_path: Path) -> Path:
    """A copy of a bundle, to change."""
    return shutil.copytree(bundle, tmp_path / "bundle")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_recorded(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    records = {*manifest.files, *(f for c in manifest.components for f in c.files)}
    for record in records:
        verify_file(bundle, record)
    assert {record.path for record in records} == contents(bundle).keys() - {"sdrt.json"}


def size_of_vocabulary(bundle: Path) -> int:
    size: int = Bundle.open(bundle).component_config("text_encoder")["vocab_size"]
    return size


def states_of(bundle: Path, prompt: str) -> Array:
    """The last states of the first text encoder."""
    opened = Bundle.open(bundle)
    encoder = opened.family.text.encoders[0]
    tokenizer = ClipTokenizer.open(opened.tokenizer_folder(encoder.tokenizer))
    with engine_from_onnx(
        bundle / opened.component(encoder.component).model, num_threads=1
    ) as engine:
        states: Array = engine.run({"input_ids": tokenizer.encode(prompt).ids[None]})[
            "last_hidden_state"
        ]
    return states


def test_an_embedding_is_added(
    plain: Path, bad: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, manifest = contents(plain), Bundle.open(plain).manifest
    states, size = states_of(plain, "a red circle"), size_of_vocabulary(plain)
    assert main(["export", "--embedding", str(bad), "--into", str(plain)]) == 0
    assert_recorded(plain)
    after, changed = contents(plain), Bundle.open(plain).manifest
    gone, new = before.keys() - after.keys(), after.keys() - before.keys()
    assert {path.split("/")[0] for path in gone} == {"text_encoder", "tokenizer"}
    assert {path.split("/")[0] for path in new} == {"text_encoder-2", "tokenizer-2"}
    same = before.keys() & after.keys() - {"sdrt.json"}
    assert {path: after[path] for path in same} == {path: before[path] for path in same}
    assert [c.name for c in changed.components] == [c.name for c in manifest.components]
    assert changed.components[1:] == manifest.components[1:]
    assert (changed.tools, changed.created) == (manifest.tools, manifest.created)
    assert [(each.kind, each.name) for each in changed.merged] == [("embedding", "Bad Hands")]
    np.testing.assert_array_equal(states_of(plain, "a red circle"), states)
    assert abs(states_of(plain, "a red bad hands") - states).max() > 0.01

    assert main(["inspect", str(plain)]) == 0
    assert "Bad Hands, sha256 " in " ".join(capsys.readouterr().out.split())
    more = embedding(tmp_path, "more", 8, num_vectors=1)
    assert main(["export", "--embedding", f"<x=y>={more}", "--into", str(plain)]) == 0
    assert_recorded(plain)
    assert size_of_vocabulary(plain) == size + 4
    assert Bundle.open(plain).component("text_encoder").model == "text_encoder/model.onnx"
    assert [each.name for each in Bundle.open(plain).manifest.merged] == ["Bad Hands", "<x=y>"]


def test_the_same_numbers_as_at_export(checkpoint: Path, plain: Path, bad: Path) -> None:
    extended = with_embeddings(checkpoint_from_source(checkpoint), [bad])
    part = parts_from_checkpoint(extended)[0]
    folder = plain.parent / "exported"
    folder.mkdir()
    (component,) = export_part(part, folder, "auto", lambda stage: None)
    add_to_bundle(plain, embeddings=[bad])
    added = Bundle.open(plain)
    configs = [folder / "text_encoder/config.json", plain / "text_encoder-2/config.json"]
    first, second = (json.loads(path.read_text()) for path in configs)
    assert first == second
    ids = ClipTokenizer.open(plain / "tokenizer-2").encode("Bad Hands, bad hands").ids[None]
    outputs = []
    for model in (folder / component.model, plain / added.component("text_encoder").model):
        with engine_from_onnx(model, num_threads=1) as engine:
            outputs.append(engine.run({"input_ids": ids}))
    for name, array in outputs[0].items():
        np.testing.assert_array_equal(array, outputs[1][name])


def test_an_unfit_embedding_leaves_the_bundle_as_it_was(plain: Path, tmp_path: Path) -> None:
    before = contents(plain)
    wide, good = embedding(tmp_path, "wide", 768), embedding(tmp_path, "good", 8)
    with pytest.raises(CheckpointError, match="has vectors of width 768, expected 8, that of the"):
        add_to_bundle(plain, embeddings=[good, wide])
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(good.read_bytes()[:-1])
    with pytest.raises(SdrtError, match="not a complete safetensors file"):
        add_to_bundle(plain, embeddings=[good, broken])
    assert contents(plain) == before
    add_to_bundle(plain, embeddings=[good])
    with pytest.raises(CheckpointError, match="already has an embedding 'good', which stays in"):
        add_to_bundle(plain, embeddings=[good], replace=True)


def test_damaged_weights_are_not_copied(plain: Path, bad: Path) -> None:
    path = plain / Bundle.open(plain).component("text_encoder").model
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    with pytest.raises(SdrtError, match="the file has changed"):
        add_to_bundle(plain, embeddings=[bad])


def test_torch_is_not_needed(plain: Path, bad: Path) -> None:
    program = (
        "import sys; from sdrt_export.adding import add_to_bundle; "
        f"add_to_bundle({str(plain)!r}, embeddings=[{str(bad)!r}]); "
        "assert not {'torch', 'transformers', 'diffusers'} & {*sys.modules}"
    )
    process = run_python(program)
    assert process.returncode == 0, process.stderr
    assert_recorded(plain)


@pytest.mark.parametrize("name", ["text_encoder", "text_encoder_2"])
def test_a_text_encoder_knows_the_token_that_ends_a_text(
    name: str, tiny_checkpoint: Callable[[str], Path], tiny_bundle: Callable[[str], Path]
) -> None:
    """Published configurations have another id, 2, with which the greatest id of a text counts."""
    recipe, folder = "xl_odd", tiny_checkpoint("xl_odd")
    stated = json.loads((folder / name / "config.json").read_text())["eos_token_id"]
    tokenizer = ClipTokenizer.open(folder / {"text_encoder": "tokenizer"}.get(name, "tokenizer_2"))
    eos = tokenizer.encode("").ids[1]
    assert stated == (2 if name == "text_encoder_2" else eos)
    assert Bundle.open(tiny_bundle(recipe)).component_config(name)["eos_token_id"] == eos
    parts = parts_from_checkpoint(checkpoint_from_source(folder))
    (network,) = next(part for part in parts if part.name == name).networks()
    assert network.model.config.eos_token_id == eos
