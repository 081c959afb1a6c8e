"""Damage of a bundle, at random: the same images or one clear error, never another image."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Manifest
from sdrt.errors import BundleError
from sdrt_engines.prepared_onnx import preparer
from support.built_bundle import build_for
from support.bundle_folder import write_bundle
from support.mutations import flipped, mutations, outcome_of, usual_images
from support.toy_bundle import write_toy_bundle

NUM_CASES = 300
NUM_BITS = 20_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, two of its networks prepared for this processor where the system names it."""
    bundle = write_toy_bundle(tmp_path_factory.mktemp("mutated") / "bundle")
    if preparer() is not None:
        build_for("cpu", bundle, components=("unet", "vae_decoder"))
    return bundle


def test_no_damage_gives_another_image(root: Path) -> None:
    expected = usual_images(root)
    outcomes = [
        outcome_of(root, mutation, expected)
        for mutation in mutations(root, count=NUM_CASES, seed=20261127)
    ]
    wrong = [str(outcome) for outcome in outcomes if outcome.kind in ("silent", "crash")]
    assert wrong == []
    kinds = Counter(outcome.kind for outcome in outcomes)
    assert kinds["refused"] > NUM_CASES / 3
    assert kinds["same"] > 0  # such as damage to a build, which is then not used
    assert Bundle.open(root).manifest  # and the damage was repaired


def test_no_bit_of_the_manifest_changes_what_it_says(tmp_path: Path) -> None:
    text = (write_bundle(tmp_path / "bundle") / "sdrt.json").read_bytes()
    expected = Manifest.from_json(text)
    chance = random.Random(20261127)
    num_refused = 0
    for _ in range(NUM_BITS):
        bit = chance.randrange(8 * len(text))
        try:
            manifest = Manifest.from_json(flipped(text, bit))
        except BundleError:
            num_refused += 1
        else:
            assert manifest == expected, bit  # a bit of the space between fields
    assert num_refused > NUM_BITS * 0.8
