"""Images of a result, saved from Python with their parameters."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sdrt
from sdrt.files.new_file import create_file
from sdrt.metadata.saving import free_paths, require_no_input, save_new_images
from support.images import sample_image
from support.toy_bundle import write_toy_bundle

STEPS: dict[str, Any] = {"num_inference_steps": 2, "width": 64, "height": 64, "seed": 5}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_toy_bundle(tmp_path / "bundle")
    sample_image(64, 64).save("in.png")
    return tmp_path


@pytest.fixture
def pipe(folder: Path) -> sdrt.Pipeline:
    return sdrt.Pipeline.open(folder / "bundle", "cpu")


def texts(path: Path) -> dict[Any, Any]:
    with Image.open(path) as image:
        image.load()
        return {**image.info}


def test_a_result_has_the_parameters_of_each_image(pipe: sdrt.Pipeline, folder: Path) -> None:
    result = pipe(["a", "b"], image="in.png", strength=0.5, **STEPS)
    first, second = result.parameters
    assert (first["prompt"], first["seed"]) == ("a", 5)
    assert (second["prompt"], second["seed"]) == ("b", 6)
    assert first["bundle"] == str(folder / "bundle")
    assert first["image"] == str(folder / "in.png")
    assert first["scheduler"] == pipe.bundle.scheduler_config["_class_name"]


def test_saved_images_record_them(pipe: sdrt.Pipeline, folder: Path) -> None:
    result = pipe("a", image="in.png", num_images_per_prompt=2, **STEPS)
    saved = result.save("new/out.png")
    assert saved == (Path("new/out-1.png"), Path("new/out-2.png"))
    found = json.loads(texts(saved[1])["sdrt"])
    assert (found["seed"], found["image"], found["bundle"]) == (6, "../in.png", "../bundle")
    assert list(found["files"]) == ["../in.png"]
    assert "Seed: 6, Size: 64x64, Model: bundle" in texts(saved[1])["parameters"]


def test_less_may_be_recorded(pipe: sdrt.Pipeline, folder: Path) -> None:
    result = pipe("a", image="in.png", **STEPS)
    result.save("out.png", "no-paths")
    written = Path("out.png").read_bytes()
    found = json.loads(texts(Path("out.png"))["sdrt"])
    assert not {"bundle", "image", "files"} & found.keys()
    assert found["model"] == "bundle"
    assert b"in.png" not in written
    assert str(folder).encode() not in written
    result.save("out.png", "none")
    assert not {"sdrt", "parameters"} & texts(Path("out.png")).keys()
    with pytest.raises(sdrt.RequestError, match="metadata: got 'no-path', did you mean 'no-paths'"):
        result.save("out.png", "no-path")  # type: ignore[arg-type]


def test_an_image_without_a_file_has_no_path(pipe: sdrt.Pipeline) -> None:
    (parameters,) = pipe("a", image=sample_image(64, 64), **STEPS).parameters
    assert not {"image", "files"} & parameters.keys()


def test_an_input_is_not_replaced(pipe: sdrt.Pipeline, folder: Path) -> None:
    result = pipe("a", image="in.png", **STEPS)
    os.link("in.png", "other.png")
    before = Path("in.png").read_bytes()
    for path in ("in.png", folder / "in.png", "other.png"):
        with pytest.raises(sdrt.SdrtError, match=r"in\.png', which would be lost: choose another"):
            result.save(path)
    assert Path("in.png").read_bytes() == before
    with pytest.raises(sdrt.SdrtError, match=r"name it \*\.png"):
        result.save("out.jpg")


def test_a_result_with_other_images_is_refused(pipe: sdrt.Pipeline) -> None:
    result = pipe("a", **STEPS)
    other = dataclasses.replace(result, images=(*result.images, sample_image(64, 64)))
    with pytest.raises(sdrt.SdrtError, match="got 1 sets of parameters for 2 images"):
        other.save("out.png")


# --- names


def test_a_free_name_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sdrt-7.png"
    assert free_paths(path, 1) == (path,)
    path.touch()
    assert free_paths(path, 1) == (tmp_path / "sdrt-7_2.png",)
    (tmp_path / "sdrt-7_2.png").symlink_to("gone")
    assert free_paths(path, 1) == (tmp_path / "sdrt-7_3.png",)
    (tmp_path / "sdrt-7-2.png").touch()
    assert free_paths(path, 2) == (tmp_path / "sdrt-7_2-1.png", tmp_path / "sdrt-7_2-2.png")


def test_what_appears_meanwhile_is_not_replaced_either(tmp_path: Path) -> None:
    path = tmp_path / "sdrt-7.png"
    path.write_text("of another process")
    saved = save_new_images([sample_image(8, 8)], [{}], [path], "full")
    assert saved == (tmp_path / "sdrt-7_2.png",)
    assert path.read_text() == "of another process"
    assert sorted(tmp_path.iterdir()) == [path, *saved]


def test_a_new_file_is_complete_or_not_there(tmp_path: Path) -> None:
    create_file(tmp_path / "a", b"content")
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "a", b"other")
    assert (tmp_path / "a").read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_inputs_that_are_gone_do_not_matter(tmp_path: Path) -> None:
    require_no_input([tmp_path / "out.png"], [tmp_path / "gone.png", "a\0b"])
