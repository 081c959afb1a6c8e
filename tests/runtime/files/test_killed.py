"""A writer that is killed at any of its steps: the old or the new, and nothing hidden later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sdrt.files.atomic import appearing_file, appearing_folder, changed_folder
from sdrt.files.drafts import remove_dead_drafts
from sdrt.metadata.png import read_record, save_png
from support.kill_points import killed_at_each_step

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads Linux' /proc")

Content = dict[str, str]


def content(folder: Path) -> Content:
    """Each file's text by its path; a folder has none."""
    paths = sorted(folder.rglob("*"))
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else "" for path in paths
    }


def write(folder: Path, text: str) -> None:
    for name in ("unet", "tokenizer"):
        (folder / name).mkdir()
        (folder / name / "file").write_text(text)
    (folder / "sdrt.json").write_text(text)


def new_bundle(path: Path) -> None:
    with appearing_folder(path, proof="sdrt.json") as draft:
        write(draft, "new")


def replaced_bundle(path: Path) -> None:
    with appearing_folder(path, replace=True, proof="sdrt.json") as draft:
        write(draft, "new")


def replaced_without_exchange(path: Path) -> None:
    with appearing_folder(
        path, replace=True, proof="sdrt.json", swap=lambda *paths: False
    ) as draft:
        write(draft, "new")


def added(path: Path) -> None:
    with changed_folder(path, last="sdrt.json") as draft:
        for name in ("controlnet_a", "controlnet_b"):
            (draft / name).mkdir()
            (draft / name / "file").write_text("new")
        (draft / "sdrt.json").write_text("new")


def exchanged(path: Path) -> None:
    with changed_folder(path, last="sdrt.json", obsolete=["unet/file", "tokenizer/file"]) as draft:
        (draft / "unet-2").mkdir()
        (draft / "unet-2" / "file").write_text("new")
        (draft / "sdrt.json").write_text("new")


def next_writer(folder: Path) -> None:
    """Any command that writes there, and changes nothing of what the killed one wrote."""
    with appearing_file(folder / "image.png") as draft:
        draft.write_text("image")
    (folder / "image.png").unlink()
    if (folder / "b").exists():
        with pytest.raises(KeyboardInterrupt), changed_folder(folder / "b", last="sdrt.json"):
            raise KeyboardInterrupt


WRITERS = [new_bundle, replaced_bundle, replaced_without_exchange, added, exchanged]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("writer", WRITERS)
def test_the_old_or_the_new_whenever_a_writer_is_killed(
    writer: Callable[[Path], None], folder: Path, tmp_path: Path
) -> None:
    if writer is not new_bundle:
        (folder / "b").mkdir()
        write(folder / "b", "old")
    old, old_bundle = content(folder), content(folder / "b")
    with killed_at_each_step(folder, tmp_path) as killed:
        writer(folder / "b")
    new, new_bundle_ = content(folder), content(folder / "b")
    is_new = []
    for step, copy in killed:
        found = content(copy / "b").items()
        whole = old_bundle.items() <= found or new_bundle_.items() <= found
        assert whole or writer is replaced_without_exchange, step
        next_writer(copy)
        assert content(copy) in (old, new), step
        is_new.append(content(copy) == new)
    assert is_new == sorted(is_new), "first the old one, then the new one"
    assert set(is_new) == {False, True}


@pytest.mark.parametrize("writer", [replaced_without_exchange, exchanged])
def test_the_next_writer_may_be_killed_too(
    writer: Callable[[Path], None], folder: Path, tmp_path: Path
) -> None:
    (folder / "b").mkdir()
    write(folder / "b", "old")
    old = content(folder)
    with killed_at_each_step(folder, tmp_path / "first") as killed:
        writer(folder / "b")
    new = content(folder)
    for number, (step, copy) in enumerate(killed):
        with killed_at_each_step(copy, tmp_path / f"second-{number}") as again:
            clean_up(copy)
        for next_step, next_copy in again:
            clean_up(next_copy)
            assert content(next_copy) in (old, new), (step, next_step)


def clean_up(folder: Path) -> None:
    """The first thing that the next writer does."""
    remove_dead_drafts(folder)
    remove_dead_drafts(folder / "b")


def test_an_image_is_there_or_not_and_replaced_or_not(folder: Path, tmp_path: Path) -> None:
    path = folder / "image.png"
    old, new = Image.new("RGB", (2, 2), "red"), Image.new("RGB", (2, 2), "blue")
    with killed_at_each_step(folder, tmp_path) as killed:
        save_png(old, path, {"prompt": "red"})
        save_png(new, path, {"prompt": "blue"})
    colours = []
    for _, copy in killed:
        with appearing_file(copy / "next.png") as draft:
            draft.touch()
        assert {each.name for each in copy.iterdir()} <= {"image.png", "next.png"}
        image = copy / "image.png"
        colours.append(read_record(image).parameters["prompt"] if image.exists() else "none")
    assert list(dict.fromkeys(colours)) == ["none", "red", "blue"]
