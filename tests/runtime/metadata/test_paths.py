"""Paths in parameters: relative to the image in its file, absolute in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sdrt.metadata.paths import absolute_paths, paths_in, relative_paths, without_paths

ROOT = Path("/photos/trip")
PARAMETERS: dict[str, Any] = {
    "prompt": "/photos",
    "bundle": "/photos/bundles/sd15",
    "image": "/photos/trip/in/a.png",
    "mask_image": "/photos/trip/mask.png",
    "control": {"edges": {"image": "/photos/trip/in/e.png", "scale": 0.5}},
    "files": {"/photos/trip/in/a.png": "aa", "/photos/trip/in/e.png": "ee"},
}


def test_they_are_relative_to_the_folder_of_the_image() -> None:
    relative = relative_paths(PARAMETERS, ROOT)
    assert relative == {
        "prompt": "/photos",
        "bundle": "../bundles/sd15",
        "image": "in/a.png",
        "mask_image": "mask.png",
        "control": {"edges": {"image": "in/e.png", "scale": 0.5}},
        "files": {"in/a.png": "aa", "in/e.png": "ee"},
    }
    assert absolute_paths(relative, ROOT) == PARAMETERS


def test_the_built_in_bundle_is_not_a_folder_of_that_name() -> None:
    assert relative_paths({"bundle": "demo"}, ROOT) == {"bundle": "demo"}
    relative = relative_paths({"bundle": "/photos/trip/demo"}, ROOT)
    assert relative == {"bundle": "./demo"}
    assert absolute_paths(relative, ROOT) == {"bundle": "/photos/trip/demo"}


def test_absolute_paths_of_older_images_stay() -> None:
    assert absolute_paths(PARAMETERS, Path("/elsewhere")) == PARAMETERS


def test_without_paths_only_the_name_of_the_model_remains() -> None:
    assert without_paths(PARAMETERS) == {
        "prompt": "/photos",
        "model": "sd15",
        "control": {"edges": {"scale": 0.5}},
    }
    assert without_paths({"bundle": "demo"}) == {"bundle": "demo"}


def test_the_inputs_are_listed() -> None:
    images = ["/photos/trip/in/a.png", "/photos/trip/mask.png", "/photos/trip/in/e.png"]
    assert paths_in(PARAMETERS) == images


@pytest.mark.parametrize("value", [None, 5, ["a"], True])
def test_values_of_other_types_are_left_to_their_checks(value: object) -> None:
    parameters = dict.fromkeys(["bundle", "image", "control", "files"], value)
    expected = {name: value for name in parameters if value is not None}
    assert absolute_paths(parameters, ROOT) == expected
