"""Drafts of killed processes are removed; those of living ones, and all else, stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from sdrt.files.atomic import appearing_file
from sdrt.files.drafts import draft_in, remove_dead_drafts, remove_interrupted_drafts
from support.kill_points import interrupted_at_step

HOLD = """
import sys, time
from sdrt.files.atomic import appearing_folder
with appearing_folder("b", proof="sdrt.json") as draft:
    (draft / "weights").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""
DEAD = ".sdrt-0123abcd"


def dead(folder: Path, machine: str = os.uname().nodename) -> Path:
    """A draft that nobody holds."""
    draft = folder / DEAD
    (draft / "new").mkdir(parents=True)
    (draft / "lock").write_text(machine)
    return draft


def test_a_living_draft_stays_and_a_dead_one_goes(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (draft,) = tmp_path.iterdir()
        remove_dead_drafts(tmp_path)
        assert (draft / "new/weights").read_text() == "half"
        process.kill()
    remove_dead_drafts(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_draft_of_this_process_stays(tmp_path: Path) -> None:
    with draft_in(tmp_path) as draft:
        with draft_in(tmp_path):
            pass
        assert draft.exists()
    assert list(tmp_path.iterdir()) == []


def test_no_writer_removes_a_draft_that_another_is_about_to_lock(tmp_path: Path) -> None:
    def write(text: str) -> None:
        with appearing_file(tmp_path / "image.png") as draft:
            draft.write_text(text)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # else too few threads change between two system calls
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, map(str, range(1000))))
    finally:
        sys.setswitchinterval(interval)
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]


def test_another_machines_draft_stays_for_a_day(tmp_path: Path) -> None:
    """Its lock may not be seen here."""
    draft = dead(tmp_path, "another machine")
    remove_dead_drafts(tmp_path)
    assert draft.exists()
    yesterday = time.time() - 25 * 3600
    os.utime(draft / "lock", (yesterday, yesterday))
    remove_dead_drafts(tmp_path)
    assert not draft.exists()


@pytest.mark.parametrize("content", [[], ["lock"]])
def test_one_that_was_killed_at_its_start_goes(tmp_path: Path, content: list[str]) -> None:
    (tmp_path / DEAD).mkdir()
    for name in content:
        (tmp_path / DEAD / name).touch()
    remove_dead_drafts(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_drafts_are_removed(tmp_path: Path) -> None:
    for name in (".sdrt-notes", ".sdrt", "sdrt-0123abcd", ".sdrt-0123abcd.bak", ".sdrt-0123ABCD"):
        (tmp_path / name).mkdir()
    (tmp_path / ".sdrt-00000000").write_text("a file")
    (tmp_path / ".sdrt-11111111").mkdir()
    (tmp_path / ".sdrt-11111111" / "mine").write_text("without a lock")
    elsewhere = dead(tmp_path / "elsewhere")
    (tmp_path / ".sdrt-22222222").symlink_to(elsewhere)
    before = sorted(tmp_path.rglob("*"))
    remove_dead_drafts(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_took_the_place_meanwhile_stays(tmp_path: Path) -> None:
    """Killed between two renames; then somebody made a folder of that name."""
    draft = dead(tmp_path)
    (draft / "old/b").mkdir(parents=True)
    (draft / "old/b/sdrt.json").write_text("old")
    (tmp_path / "b").mkdir()
    remove_dead_drafts(tmp_path)
    assert (draft / "old/b/sdrt.json").exists()
    (tmp_path / "b").rmdir()
    remove_dead_drafts(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["b", "b/sdrt.json"]


@pytest.mark.parametrize("field", ["added", "obsolete"])
@pytest.mark.parametrize(
    "name", ["../mine", "{folder}/mine", "link/mine", "..", "", "link/../mine"]
)
def test_a_strangers_draft_removes_nothing_outside(tmp_path: Path, name: str, field: str) -> None:
    root = tmp_path / "bundle"
    draft = dead(root)
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (root / "link").symlink_to(tmp_path)
    if field == "added":
        (draft / "new/sdrt.json").touch()  # the change was not finished
    change: dict[str, object] = {"last": "sdrt.json", "added": [], "obsolete": []}
    change[field] = [name.format(folder=tmp_path)]
    (draft / "change.json").write_text(json.dumps(change))
    remove_dead_drafts(root)
    assert mine.read_text() == "mine"
    assert [path.name for path in root.iterdir()] == ["link"]


def test_an_interrupt_at_any_step_leaves_nothing(tmp_path: Path) -> None:
    num_steps, finished = 0, False
    while not finished:
        assert num_steps < 100
        with suppress(KeyboardInterrupt), interrupted_at_step(num_steps, tmp_path):
            with appearing_file(tmp_path / "image.png") as draft:
                draft.write_bytes(b"whole")
            finished = True
        remove_interrupted_drafts()
        (tmp_path / "image.png").unlink(missing_ok=True)
        assert list(tmp_path.iterdir()) == []
        num_steps += 1
    assert num_steps > 5
