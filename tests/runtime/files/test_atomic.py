from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from sdrt.errors import SdrtError
from sdrt.files import atomic
from sdrt.files.atomic import Swap, appearing_file, changed_folder, full_disk
from sdrt_engines.operating_system import exchange

Appearing = Callable[[Path], AbstractContextManager[Path]]

appearing_folder = partial(atomic.appearing_folder, proof="sdrt.json")


def entries(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def old_bundle(path: Path) -> Path:
    path.mkdir()
    (path / "sdrt.json").write_text("old")
    return path


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    with appearing_folder(tmp_path / "new") as draft:
        (draft / "file").write_text("content")
        assert not (tmp_path / "new").exists()
        assert tmp_path in draft.parents  # the same disk, or the last step would be a copy
    assert entries(tmp_path) == ["new", "new/file"]


def test_a_folder_has_ordinary_permissions(tmp_path: Path) -> None:
    with appearing_folder(tmp_path / "new"):
        pass
    (tmp_path / "ordinary").mkdir()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, FileNotFoundError])
@pytest.mark.parametrize("appearing", [appearing_folder, appearing_file])
def test_an_error_leaves_nothing(
    tmp_path: Path, error: type[BaseException], appearing: Appearing
) -> None:
    with pytest.raises(error), appearing(tmp_path / "a/b/new") as draft:
        (draft / "file" if draft.is_dir() else draft).write_text("half")
        raise error
    assert entries(tmp_path) == []


def test_parent_folders_are_made(tmp_path: Path) -> None:
    with appearing_folder(tmp_path / "a/b/new"):
        pass
    with appearing_file(tmp_path / "c/d/file") as draft:
        draft.write_text("content")
    assert entries(tmp_path) == ["a", "a/b", "a/b/new", "c", "c/d", "c/d/file"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with appearing_folder(tmp_path / "new") as draft:
        (draft / "file").write_text("content")
    assert entries(tmp_path) == ["new", "new/file"]


@pytest.mark.parametrize("replace", [False, True])
def test_what_is_there_is_left_alone(tmp_path: Path, replace: bool) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "cat.png").write_text("cat")
    message = (
        "was not made by sdrt, as it has no sdrt.json"
        if replace
        else "already exists: choose another path, or replace it"
    )
    with pytest.raises(SdrtError, match=message), appearing_folder(images, replace=replace):
        pytest.fail("the block must not run")
    assert entries(tmp_path) == ["images", "images/cat.png"]


def test_a_file_is_no_folder_to_replace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    for replace in (False, True):
        with pytest.raises(SdrtError), appearing_folder(tmp_path / "file", replace=replace):
            pytest.fail("the block must not run")
    assert (tmp_path / "file").read_text() == "content"


def test_a_bundle_is_replaced_once_the_new_one_is_whole(tmp_path: Path) -> None:
    path = old_bundle(tmp_path / "bundle")
    with appearing_folder(path, replace=True) as draft:
        (draft / "sdrt.json").write_text("new")
        assert (path / "sdrt.json").read_text() == "old"
    assert (path / "sdrt.json").read_text() == "new"
    assert entries(tmp_path) == ["bundle", "bundle/sdrt.json"]


def test_a_failed_replacement_keeps_the_old_bundle(tmp_path: Path) -> None:
    path = old_bundle(tmp_path / "bundle")
    with pytest.raises(KeyboardInterrupt), appearing_folder(path, replace=True):
        raise KeyboardInterrupt
    with (
        pytest.raises(SdrtError, match="cannot write"),
        appearing_folder(path, replace=True) as draft,
    ):
        draft.rmdir()  # now the very last step fails
    assert (path / "sdrt.json").read_text() == "old"
    assert entries(tmp_path) == ["bundle", "bundle/sdrt.json"]


def test_a_symlink_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with appearing_folder(tmp_path / "link") as draft:
        (draft / "file").write_text("content")
    assert (tmp_path / "real/file").read_text() == "content"


@pytest.mark.parametrize("appearing", [appearing_folder, appearing_file])
def test_a_full_disk_is_reported(tmp_path: Path, appearing: Appearing) -> None:
    with pytest.raises(SdrtError) as caught, appearing(tmp_path / "new"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")
    assert str(caught.value).startswith(
        f"the disk is full: '{tmp_path / 'new'}' needs more than the "
    )
    assert str(caught.value).endswith("make room, or choose a path on another disk")
    assert entries(tmp_path) == []


@pytest.mark.parametrize("appearing", [appearing_folder, appearing_file])
def test_a_path_that_cannot_be_written_is_reported(tmp_path: Path, appearing: Appearing) -> None:
    (tmp_path / "file").write_text("content")
    with pytest.raises(SdrtError) as caught, appearing(tmp_path / "file/new"):
        pytest.fail("the block must not run")
    assert str(caught.value).startswith(f"cannot write '{tmp_path / 'file/new'}': ")
    assert str(caught.value).endswith(": choose another path")
    assert entries(tmp_path) == ["file"]


@pytest.mark.parametrize("appearing", [appearing_folder, appearing_file])
def test_a_path_that_cannot_even_be_looked_at_is_reported(
    tmp_path: Path, appearing: Appearing
) -> None:
    """Such as one in a folder of another user; as root, only a name that is too long is refused."""
    path = tmp_path / ("x" * 300) / "new"
    with pytest.raises(SdrtError) as caught, appearing(path):
        pytest.fail("the block must not run")
    assert str(caught.value) == f"cannot write '{path}': File name too long: choose another path"


def test_a_draft_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "new"
    with pytest.raises(SdrtError, match="new': Permission denied"), appearing_file(path) as draft:
        raise PermissionError(errno.EACCES, "Permission denied", str(draft))


def test_a_file_that_a_program_has_open_is_reported(tmp_path: Path) -> None:
    """Windows refuses to replace a file that is open or mapped."""
    path = tmp_path / "model.onnx"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(SdrtError) as caught, appearing_file(path) as draft:
        raise PermissionError(errno.EACCES, "Permission denied", str(draft))
    assert str(caught.value) == (
        f"cannot write '{path}': Permission denied: close what has it open, or choose another path"
    )
    assert path.read_text(encoding="utf-8") == "old"


def test_other_trouble_in_the_block_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="checkpoint"), appearing_folder(tmp_path / "new"):
        (tmp_path / "checkpoint").read_bytes()


def test_a_file_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_text("old")
    with appearing_file(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert entries(tmp_path) == ["image.png"]


@pytest.mark.parametrize("path", ["/dev/null", "/"])
def test_only_files_are_replaced_by_files(path: str) -> None:
    with pytest.raises(SdrtError, match=f"'{path}' is not a file"), appearing_file(path):
        pytest.fail("the block must not run")


# --- changes to a folder


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A bundle with two rooms."""
    folder = old_bundle(tmp_path / "house")
    for room in ("attic", "cellar"):
        (folder / room).mkdir()
        (folder / room / "old").write_text(room)
    return folder


OBSOLETE = ["attic/old"]


def furnish(draft: Path) -> None:
    for room in ("garage", "porch"):
        (draft / room).mkdir()
        (draft / room / "new").write_text(room)
    (draft / "sdrt.json").write_text("new")


def test_a_folder_changes_when_the_change_is_whole(house: Path) -> None:
    with changed_folder(house, last="sdrt.json", obsolete=OBSOLETE) as draft:
        furnish(draft)
        assert (house / "sdrt.json").read_text() == "old"
    assert (house / "sdrt.json").read_text() == "new"
    expected = ["cellar", "cellar/old", "garage", "garage/new", "porch", "porch/new", "sdrt.json"]
    assert entries(house) == expected
    assert entries(house.parent)[0] == "house", "nothing is left next to it"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, FileNotFoundError])
def test_an_error_leaves_a_folder_as_it_was(house: Path, error: type[BaseException]) -> None:
    before = entries(house)
    with (
        pytest.raises(error),
        changed_folder(house, last="sdrt.json", obsolete=OBSOLETE) as draft,
    ):
        furnish(draft)
        raise error
    assert entries(house) == before
    assert (house / "sdrt.json").read_text() == "old"


def test_what_has_moved_comes_back_when_the_last_cannot(house: Path) -> None:
    before = entries(house)
    (house / "sdrt.json").unlink()
    (house / "sdrt.json").mkdir()  # a file does not take a folder's place
    message = f"cannot write '{house}': Is a directory"
    with pytest.raises(SdrtError, match=message), changed_folder(house, last="sdrt.json") as draft:
        furnish(draft)
    assert entries(house) == before
    assert (house / "attic/old").read_text() == "attic"


def test_a_folder_that_cannot_be_changed_is_reported() -> None:
    with (
        pytest.raises(SdrtError, match="cannot write '/proc'"),
        changed_folder("/proc", last="sdrt.json"),
    ):
        pytest.fail("the block must not run")


# --- what appears at the destination during the block


def test_a_folder_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "out"
    message = "already exists: choose another path, or replace it"
    with pytest.raises(SdrtError, match=message), appearing_folder(path) as draft:
        (draft / "sdrt.json").write_text("new")
        path.mkdir()
        (path / "holiday.jpg").write_text("mine")
    assert entries(tmp_path) == ["out", "out/holiday.jpg"]


def test_what_is_saved_in_the_empty_folder_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    with pytest.raises(SdrtError, match="already exists"), appearing_folder(path):
        (path / "holiday.jpg").write_text("mine")
    assert entries(tmp_path) == ["out", "out/holiday.jpg"]


def test_the_first_of_two_exports_to_one_path_stays(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with pytest.raises(SdrtError, match="already exists"), appearing_folder(path) as second:
        with appearing_folder(path) as first:
            (first / "sdrt.json").write_text("first")
        (second / "sdrt.json").write_text("second")
    assert (path / "sdrt.json").read_text() == "first"
    assert entries(tmp_path) == ["out", "out/sdrt.json"]


@pytest.mark.parametrize("swap", [exchange, lambda *paths: False], ids=["one step", "two steps"])
def test_what_replaced_the_bundle_meanwhile_stays(tmp_path: Path, swap: Swap) -> None:
    path = old_bundle(tmp_path / "out")

    def late(*paths: Path) -> bool:  # between the last check and the exchange
        (path / "sdrt.json").unlink()
        (path / "holiday.jpg").write_text("mine")
        return swap(*paths)

    swaps: Iterator[Swap] = iter([late, exchange])
    with (
        pytest.raises(SdrtError, match=r"was not made by sdrt, as it has no sdrt\.json"),
        appearing_folder(path, replace=True, swap=lambda *paths: next(swaps)(*paths)) as draft,
    ):
        (draft / "sdrt.json").write_text("new")
    assert entries(tmp_path) == ["out", "out/holiday.jpg"]


# --- names, permissions, links, full disks


@pytest.mark.parametrize("appearing", [appearing_folder, appearing_file])
def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path, appearing: Appearing) -> None:
    path = tmp_path / ("猫" * 85)  # 255 bytes
    with appearing(path) as draft:
        (draft / "file" if draft.is_dir() else draft).write_text("new")
    assert path.exists()


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_text("old")
    path.chmod(0o600)
    with appearing_file(path) as draft:
        draft.write_text("new")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == "new"


def test_a_link_to_itself_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "loop.png"
    path.symlink_to(path)
    with pytest.raises(SdrtError, match=r"loop\.png"), appearing_file(path):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_the_reason_of_a_full_disk(number: int) -> None:
    error = OSError(number, os.strerror(number))
    said = {
        errno.ENOSPC: r"the disk is full: 'a' needs more than the \d+ MB that are free there",
        errno.EDQUOT: r"'a' needs more than your quota on this disk allows",
    }
    assert re.fullmatch(said[number], full_disk(error, Path("a")))


def test_a_disk_without_inodes_is_not_said_to_lack_bytes() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert full_disk(error, Path("a"), num_files=0) == (
        "the disk is full: it has no room for another file like 'a' (no free inodes)"
    )


# --- the order in which the disk gets it


@pytest.mark.parametrize("kind", ["file", "folder", "change"])
def test_content_reaches_the_disk_before_its_name(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = old_bundle(tmp_path / "bundle")
    steps: list[str] = []

    def sync(path: Path) -> None:
        name = "content" if path.name in ("new", "unet", "weights", "sdrt.json") else path.name
        steps.append(f"sync {name}, {(folder / 'sdrt.json').read_text()} is there")

    monkeypatch.setattr(atomic, "sync_to_disk", sync)
    writers = {
        "file": appearing_file(folder / "sdrt.json"),
        "folder": appearing_folder(folder, replace=True),
        "change": changed_folder(folder, last="sdrt.json"),
    }
    with writers[kind] as draft:
        if kind != "file":
            (draft / "unet").mkdir()
            (draft / "unet/weights").touch()
        (draft if kind == "file" else draft / "sdrt.json").write_text("new")
    assert steps[0] == "sync content, old is there"
    assert steps[-1].endswith("new is there")
    late = [step for step in steps if step.startswith("sync content, new")]
    assert late == []
    assert steps.count("sync content, old is there") == (1 if kind == "file" else 4)
