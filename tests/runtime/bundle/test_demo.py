"""The built-in bundle stays as installed; files built for it are in the user's cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sdrt.bundle import demo
from sdrt.bundle.folder import Bundle
from sdrt.errors import BundleError, SdrtError
from support.bundle_folder import write_bundle
from support.damage import overwrite

UNET = "unet/model.onnx"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDRT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def package(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A built-in bundle, installed read-only."""
    root = write_bundle(tmp_path / "package" / "demo_bundle")
    for path in (*root.rglob("*"), root):
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.setattr(demo, "DEMO_FOLDER", root)
    return root


def state_of(root: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder with its mode and the time of its last change."""
    found = {path: path.stat() for path in (root, *root.rglob("*"))}
    return {str(path): (stat.st_mode, stat.st_mtime_ns) for path, stat in found.items()}


def test_demo_is_the_bundle_in_the_package(
    package: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Bundle.open("demo").root == package
    assert not cache.exists()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="no bundle at 'demo'"):
        Bundle.open(Path("demo"))  # a path is a path


def test_a_package_without_it_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "DEMO_FOLDER", tmp_path / "demo_bundle")
    with pytest.raises(BundleError, match=r"create it with `sdrt export demo -o .*demo_bundle`"):
        Bundle.open("demo")


@pytest.mark.parametrize("by_path", [False, True])
def test_a_build_gets_a_copy_in_the_cache_and_the_package_stays(
    package: Path, cache: Path, by_path: bool
) -> None:
    before = state_of(package)
    copy = Bundle.open(package if by_path else "demo").to_build_in()
    assert copy.root.is_relative_to(cache)
    for path in (copy.root, *copy.root.rglob("*")):
        mapped = path.match("*/model.onnx*") and os.name == "posix"
        assert bool(path.stat().st_mode & 0o200) != mapped, path
    assert Bundle.open(copy.root).manifest == Bundle.open("demo").manifest
    assert Bundle.open("demo").root == copy.root
    assert state_of(package) == before


def test_what_was_built_stays_when_more_is(package: Path) -> None:
    built = Bundle.open("demo").to_build_in().root / "engines" / "cpu" / "unet"
    built.mkdir(parents=True)
    before = state_of(built.parents[2])
    assert Bundle.open("demo").to_build_in().root == built.parents[2]
    assert state_of(built.parents[2]) == before


@pytest.mark.parametrize("name", [UNET, "sdrt.json"])
def test_an_incomplete_copy_is_passed_over_until_it_is_completed(package: Path, name: str) -> None:
    copy = Bundle.open("demo").to_build_in().root
    (copy / name).unlink()
    assert Bundle.open("demo").root == package
    assert Bundle.open("demo").to_build_in().root == copy
    assert Bundle.open("demo").root == copy
    assert (copy / name).read_bytes() == (package / name).read_bytes()


def test_a_damaged_file_of_the_copy_is_copied_again(package: Path) -> None:
    copy = Bundle.open("demo").to_build_in().root
    size = (copy / UNET).stat().st_size
    overwrite(copy / UNET, bytes(size))
    Bundle.open("demo").to_build_in()
    assert (copy / UNET).read_bytes() == (package / UNET).read_bytes()


def test_a_copy_with_another_manifest_is_passed_over(package: Path) -> None:
    """A changed copy is a bundle like any other, at its path."""
    manifest = Bundle.open("demo").to_build_in().root / "sdrt.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    assert Bundle.open("demo").root == package


def test_an_upgrade_does_not_run_the_copy_of_the_version_before(package: Path) -> None:
    copy = Bundle.open("demo").to_build_in().root
    manifest = package / "sdrt.json"
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes() + b"\n")  # another bundle
    assert Bundle.open("demo").root == package
    assert Bundle.open("demo").to_build_in().root != copy


def test_another_bundle_is_built_where_it_is(package: Path, tmp_path: Path, cache: Path) -> None:
    root = write_bundle(tmp_path / "own")
    assert Bundle.open(root).to_build_in().root == root
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_reported(package: Path, cache: Path) -> None:
    cache.write_text("a file, where a folder should be", encoding="utf-8")
    assert Bundle.open("demo").root == package
    with pytest.raises(SdrtError, match=f"^'{cache}/.*' cannot be written: .*: set SDRT_CACHE"):
        Bundle.open("demo").to_build_in()


def test_without_a_home_folder_it_runs_and_a_build_says_what_to_set(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise SdrtError("this user has no home folder: set SDRT_CACHE to a folder")

    monkeypatch.setattr(demo, "cache_folder", no_home)
    assert Bundle.open("demo").root == package
    assert Bundle.open(package).root == package
    with pytest.raises(SdrtError, match="set SDRT_CACHE"):
        Bundle.open("demo").to_build_in()
