"""A pipeline whose networks are Python functions, and a bundle with real ones; files that need
another bundle have their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sdrt import Bundle, Pipeline
from support.bundle_folder import write_onnx_folder
from support.clip_folder import write_clip_folder
from support.function_networks import Networks, pipeline_of
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
