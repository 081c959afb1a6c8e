"""The folder for cached data of this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sdrt.errors import SdrtError
from sdrt.files.cache import cache_folder, require_writable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have other places")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.delenv("SDRT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


@pytest.mark.usefixtures("environment")
def test_it_is_among_the_users_caches(tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / ".cache/sdrt"


def test_the_system_may_have_another_place(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/sdrt")
    environment.setenv("XDG_CACHE_HOME", "relative")  # ignored by the specification
    assert cache_folder() == tmp_path / ".cache/sdrt"


def test_the_user_may_choose_it(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("XDG_CACHE_HOME", "/caches")
    environment.setenv("SDRT_CACHE", "mine")
    assert cache_folder() == Path.cwd() / "mine"


def test_without_a_home_the_way_out_is_named(environment: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    environment.setattr(Path, "home", no_home)
    with pytest.raises(SdrtError, match="no home folder: set SDRT_CACHE to a folder"):
        cache_folder()


def test_a_folder_that_can_be_written_is_made(tmp_path: Path) -> None:
    require_writable(tmp_path / "a/b")
    assert list((tmp_path / "a/b").iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SdrtError, match=r"file/sub' cannot be written: .*: set SDRT_CACHE to a"):
        require_writable(tmp_path / "file/sub")
