"""A pipeline whose networks are Python functions, and a bundle with real ones; files that need
another bundle have their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sdrt import Bundle, Pipeline
from sdrt.targets.reservations import VARIABLE
from sdrt_engines import resident_memory
from support.bundle_folder import write_onnx_folder
from support.clip_folder import write_clip_folder
from support.function_networks import Networks, pipeline_of
from support.memory_limits import Limit
from support.toy_bundle import write_toy_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_onnx_folder(tmp_path_factory.mktemp("bundle") / "bundle")
    shutil.rmtree(root / "tokenizer")
    write_clip_folder(root / "tokenizer")
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With real networks, of random weights."""
    return Bundle.open(write_toy_bundle(tmp_path_factory.mktemp("toy") / "bundle"))


@pytest.fixture
def networks() -> Networks:
    return Networks()


@pytest.fixture
def pipe(folder: Path, networks: Networks) -> Pipeline:
    return pipeline_of(folder, networks)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Limits the memory that the process may take from now on, in MiB."""

    def set_limit(size: int) -> None:
        resident = resident_memory()
        assert resident is not None
        monkeypatch.setenv(VARIABLE, str(resident + size * 2**20))

    return set_limit
