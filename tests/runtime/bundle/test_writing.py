"""One writer at a time in a bundle, which first removes what killed ones left."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sdrt.bundle.writing import only_writer
from sdrt.errors import BundleError
from support.bundle_folder import write_bundle


def nobody() -> None:
    pytest.fail("nobody else writes")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_it_leaves_no_trace(root: Path) -> None:
    before = sorted(root.rglob("*"))
    with only_writer(root, nobody):
        assert (root / "engines/.lock").exists()
    assert sorted(root.rglob("*")) == before


def test_what_was_built_stays(root: Path) -> None:
    (root / "engines/cpu").mkdir(parents=True)
    with only_writer(root, nobody):
        pass
    assert list((root / "engines").iterdir()) == [root / "engines/cpu"]


def test_the_second_waits_and_then_locks(root: Path) -> None:
    waiting, entered = threading.Event(), threading.Event()

    def write() -> None:
        with only_writer(root, waiting.set):
            entered.set()

    second = threading.Thread(target=write)
    with only_writer(root, nobody):
        second.start()
        assert waiting.wait(30)
        assert not entered.is_set()
    second.join(30)
    assert entered.is_set()
    assert not (root / "engines").exists()


def test_the_second_follows_a_bundle_that_was_replaced(root: Path) -> None:
    """As `export --replace` does while a build waits: the lock of the new bundle counts."""
    waiting = threading.Event()
    locked = []

    def write() -> None:
        with only_writer(root, waiting.set):
            locked.append((root / "engines/.lock").exists())

    second = threading.Thread(target=write)
    with only_writer(root, nobody):
        second.start()
        assert waiting.wait(30)
        root.rename(root.with_name("old"))
        write_bundle(root)
    second.join(30)
    assert locked == [True]


@pytest.mark.parametrize("folder", ["", "engines/cpu", "unet", ".."])
def test_leftovers_anywhere_in_the_bundle_and_next_to_it_are_removed(
    root: Path, folder: str
) -> None:
    left = root / folder / ".sdrt-0123abcd"
    (left / "new").mkdir(parents=True)
    (left / "lock").touch()
    with only_writer(root, nobody):
        assert not left.exists()


def test_a_lock_that_is_a_link_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "engines").mkdir()
    (root / "engines/.lock").symlink_to(tmp_path / "elsewhere")
    message = r"cannot write '.*engines/\.lock': .*copy the bundle"
    with pytest.raises(BundleError, match=message), only_writer(root, nobody):
        pytest.fail("the block must not run")
    assert not (tmp_path / "elsewhere").exists()
