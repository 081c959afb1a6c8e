"""The checks of `make dist` on the contents of a wheel and an sdist."""

from __future__ import annotations

import os
import tarfile
import zipfile
from pathlib import Path

import pytest

import dist

PACKED = {
    "PKG-INFO",
    "LICENSE",
    "tests/test_dist.py",
    "runtime/sdrt/__init__.py",
    "runtime/sdrt/py.typed",
    "runtime/sdrt/demo_bundle/sdrt.json",
    "engines/sdrt_engines/py.typed",
    "export/sdrt_export/py.typed",
    "export/sdrt_export/demo/train.py",
    "export/sdrt_export/demo_checkpoint/unet/model.safetensors",
}
INFO = "sdrt-0.1.0.dist-info"
WHEEL = {
    "sdrt/__init__.py",
    "sdrt/py.typed",
    "sdrt/demo_bundle/sdrt.json",
    "sdrt_engines/py.typed",
    "sdrt_export/py.typed",
    "sdrt_export/demo/train.py",
    *(f"{INFO}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")),
    f"{INFO}/licenses/LICENSE",
}


def test_a_wheel_as_it_should_be() -> None:
    assert list(dist.faults_of_wheel(WHEEL, PACKED)) == []


@pytest.mark.parametrize(
    "name",
    ["sdrt/__init__.py", "sdrt/py.typed", "sdrt/demo_bundle/sdrt.json", f"{INFO}/licenses/LICENSE"],
)
def test_what_a_wheel_lacks_is_named(name: str) -> None:
    expected = name.removeprefix(f"{INFO}/")
    assert list(dist.faults_of_wheel(WHEEL - {name}, PACKED)) == [f"wheel: {expected} is missing"]


def test_a_wheel_needs_types_and_demo_even_if_the_sdist_lacks_them() -> None:
    name = "sdrt/demo_bundle/sdrt.json"
    packed = PACKED - {f"runtime/{name}"}
    assert list(dist.faults_of_wheel(WHEEL - {name}, packed)) == [f"wheel: {name} is missing"]


@pytest.mark.parametrize(
    "name",
    [
        "tests/test_dist.py",
        "bench/recording.py",
        "sdrt/__pycache__/request.cpython-311.pyc",
        "sdrt/demo_bundle/engines/cpu/unet/model.onnx",
        "sdrt_export/demo_checkpoint/unet/model.safetensors",
        f"{INFO}/top_level.txt",
    ],
)
def test_what_does_not_belong_into_a_wheel_is_named(name: str) -> None:
    faults = list(dist.faults_of_wheel(WHEEL | {name}, PACKED))
    assert faults == [f"wheel: {name} does not belong there"]


def test_an_sdist_holds_what_git_tracks() -> None:
    tracked = PACKED - {"PKG-INFO"}
    assert list(dist.faults_of_sdist(PACKED, tracked)) == []
    assert list(dist.faults_of_sdist(PACKED, tracked | {"a"})) == ["sdist: a is missing"]
    assert list(dist.faults_of_sdist(PACKED | {"a"}, tracked)) == ["sdist: a is not tracked by git"]
    assert list(dist.faults_of_sdist(PACKED, None)) == []


def test_archives_are_read(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("free", encoding="utf-8")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "LICENSE", "sdrt-0.1.0/runtime/LICENSE")
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.write(tmp_path / "LICENSE", "sdrt/LICENSE")
    assert dist.names_in_sdist(tmp_path / "a.tar.gz") == {"runtime/LICENSE"}
    assert dist.names_in_wheel(tmp_path / "a.whl") == {"sdrt/LICENSE"}


def test_a_folder_without_git_tracks_nothing_known(tmp_path: Path) -> None:
    assert dist.tracked_files(tmp_path) is None


def test_a_command_that_fails_shows_what_it_wrote() -> None:
    command = ["sh", "-c", "echo broken; exit 3"]
    with pytest.raises(dist.DistError, match="sh -c echo broken; exit 3\nbroken"):
        dist.call(command)
    assert dist.call(command, code=3) == "broken\n"


def test_a_changed_or_added_file_is_another_state(tmp_path: Path) -> None:
    package = tmp_path / "sdrt"
    package.mkdir()
    (tmp_path / "numpy").mkdir()
    (package / "a.py").write_text("a = 1", encoding="utf-8")
    before = dist.state_of(tmp_path)
    assert set(before) == {package, package / "a.py"}
    (package / "a.pyc").write_bytes(b"")
    assert dist.state_of(tmp_path) == before
    os.utime(package / "a.py", (1, 1))
    assert dist.state_of(tmp_path) != before
    os.utime(package / "a.py", ns=(1, before[package / "a.py"]))
    (package / "engines").mkdir()
    assert dist.state_of(tmp_path) != before
