"""The project's promises about itself: its public names, its licence, its shape."""

import tomllib
from fnmatch import filter as filter_names
from pathlib import Path

import pytest

import sdrt

HOUSE = Path(__file__).parent.parent
PROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_public_names_are_these() -> None:
    classes = (
        "Bundle Control Forecast Note Pipeline Request RequestOptions Result Step Stream Timings"
    )
    errors = (
        "BundleError DeadlineExceeded EngineError NonFiniteError OutOfMemoryError RequestCancelled "
        "RequestError SamplerError SdrtError TargetError"
    )
    assert sorted(sdrt.__all__) == sorted([*classes.split(), *errors.split(), "NoteWarning"])


@pytest.mark.parametrize("name", sdrt.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(sdrt, name).__doc__


def test_the_version_is_the_package_s() -> None:
    assert sdrt.__version__ == PROJECT["version"]


def test_the_lean_package_is_lean() -> None:
    names = {requirement.partition(">=")[0] for requirement in PROJECT["dependencies"]}
    assert names == {"numpy", "onnxruntime", "tokenizers", "Pillow", "rich"}


@pytest.mark.parametrize("package", ["engines/sdrt_engines", "runtime/sdrt", "export/sdrt_export"])
def test_every_package_is_typed(package: str) -> None:
    assert (HOUSE / package / "py.typed").is_file()


def test_no_folder_of_tests_is_ignored_by_pytest(pytestconfig: pytest.Config) -> None:
    """pytest does so silently: a folder called `build` was never run."""
    folders = {path.parent.name for path in (HOUSE / "tests").rglob("test_*.py")}
    assert "building" in folders
    for pattern in pytestconfig.getini("norecursedirs"):
        assert not filter_names(folders, pattern)


@pytest.mark.parametrize("tier", ["export", "parity"])
def test_the_tiers_with_torch_are_folders(tier: str) -> None:
    """`make test` runs them by their folders; `pytest -m` by their markers."""
    texts = {path: path.read_text("utf-8") for path in (HOUSE / "tests").rglob("test_*.py")}
    marked = {path for path, text in texts.items() if f"mark.{tier}" in text.split("\ndef ")[0]}
    folder = {path for path in texts if HOUSE / "tests" / tier in path.parents}
    full = {path for path, text in texts.items() if "pytestmark = pytest.mark.full" in text}
    assert marked == folder - full
