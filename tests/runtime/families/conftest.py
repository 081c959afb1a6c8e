"""A bundle of the invented family, and a pipeline with its networks."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from sdrt import Bundle, Pipeline
from sdrt_engines import resolve_target
from support.invented import (
    FAMILY,
    NETWORKS,
    Invented,
    component,
    records_in,
)
from support.toy_bundle import write_toy_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The files of the toy bundle with other networks, which cannot be opened."""
    root = write_toy_bundle(tmp_path_factory.mktemp("bundle") / "bundle")
    shutil.copytree(root / "tokenizer", root / "tokenizer_2")
    toy = Bundle.open(root)
    manifest = replace(
        toy.manifest,
        family=FAMILY,
        components=tuple(component(name) for name in NETWORKS),
        files=(*toy.manifest.files, *records_in(root, "tokenizer_2")),
        defaults={},
    )
    return Bundle(root, manifest)


@pytest.fixture
def networks() -> Invented:
    return Invented()


@pytest.fixture
def pipe(bundle: Bundle, networks: Invented) -> Pipeline:
    return Pipeline(bundle, resolve_target("cpu"), networks.engines)
