"""ControlNets on the command line and in a PNG."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdrt.command_line.control_options import controls_from_options
from sdrt.control import Control
from sdrt.errors import RequestError, SdrtError, UsageError
from sdrt.metadata.parameters import json_from_control
from support.images import sample_image


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("edges.png", "depth.png"):
        sample_image(16, 8).save(name)
    return tmp_path


def options(**given: list[str]) -> argparse.Namespace:
    names = ("control", "control_scale", "control_window", "annotate")
    return argparse.Namespace(**(dict.fromkeys(names) | given))


def test_without_options_there_is_no_control() -> None:
    assert controls_from_options(options(), {}) == {}


def test_each_controlnet_has_its_own_options() -> None:
    edges, depth = controls_from_options(
        options(
            control=["edges=edges.png", "depth=depth.png"],
            control_scale=["edges=0.8"],
            control_window=["depth=0.1:0.6"],
            annotate=["edges=canny"],
        ),
        {},
    ).items()
    assert (edges[0], depth[0]) == ("edges", "depth")
    assert (edges[1].scale, edges[1].start, edges[1].end, edges[1].annotate) == (0.8, 0, 1, "canny")
    assert (depth[1].scale, depth[1].start, depth[1].end, depth[1].annotate) == (1, 0.1, 0.6, None)


def test_a_path_may_hold_an_equals_sign(folder: Path) -> None:
    (folder / "edges.png").rename("a=b.png")
    controls = controls_from_options(options(control=["edges=a=b.png"]), {})
    assert controls["edges"].input_image is not None
    assert controls["edges"].input_image.path == "a=b.png"


def test_options_change_and_join_what_a_png_says() -> None:
    recorded = {"control": {"edges": {"image": "edges.png", "scale": 0.5, "end": 0.7}}}
    controls = controls_from_options(
        options(control=["depth=depth.png"], control_scale=["edges=2"]), recorded
    )
    assert list(controls) == ["edges", "depth"]
    assert (controls["edges"].scale, controls["edges"].end) == (2, 0.7)
    assert recorded["control"]["edges"]["scale"] == 0.5


def test_a_control_comes_back_from_its_json(folder: Path) -> None:
    control = Control("edges.png", scale=0.5, start=0.1, end=0.9, annotate="canny")
    said = json_from_control(control)
    assert said == {
        "image": str(folder / "edges.png"),
        "scale": 0.5,
        "start": 0.1,
        "end": 0.9,
        "annotate": "canny",
    }
    again = controls_from_options(options(), {"control": {"edges": said}})["edges"]
    assert json_from_control(again) == said


@pytest.mark.parametrize("image", [sample_image(8, 8), np.zeros((8, 8, 5))])
def test_what_came_from_no_file_has_no_path(image: Any) -> None:
    assert json_from_control(Control(image)) == {"scale": 1.0, "start": 0.0, "end": 1.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"control": ["edges"]}, "--control: got 'edges', expected NAME=IMAGE"),
        ({"control": ["=edges.png"]}, "--control: got '=edges.png', expected NAME=IMAGE"),
        ({"control": ["edges="]}, "--control: got 'edges=', expected NAME=IMAGE"),
        (
            {"control": ["edges=edges.png", "edges=depth.png"]},
            "--control: 'edges' is given twice: give it once",
        ),
        (
            {"control_scale": ["edges=1"]},
            "--control-scale: got edges=1, there is no --control",
        ),
        (
            {"control": ["edges=edges.png"], "annotate": ["egdes=canny"]},
            "--annotate: got egdes=canny, did you mean 'edges'?",
        ),
        (
            {"control": ["edges=edges.png"], "control_scale": ["edges=much"]},
            "--control-scale edges: got 'much', expected a number",
        ),
        (
            {"control": ["edges=edges.png"], "control_window": ["edges=0.5"]},
            "--control-window: got edges=0.5, expected edges=START:END, such as 0:0.6",
        ),
        (
            {"control": ["edges=edges.png"], "control_window": ["edges=0:"]},
            "--control-window edges: got '', expected a number",
        ),
    ],
)
def test_wrong_usage(given: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        controls_from_options(options(**given), {})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("recorded", "kind", "message"),
    [
        ("edges.png", RequestError, "control: the PNG says 'edges.png', expected for each Control"),
        ({"edges": "edges.png"}, RequestError, "control: the PNG says {'edges': 'edges.png'}"),
        ({"edges": {"weight": 1}}, RequestError, "some of image, scale, start, end, annotate"),
        (
            {"edges": {"scale": 1}},
            UsageError,
            "control 'edges': the PNG does not name its image: give --control edges=IMAGE",
        ),
        ({"edges": {"image": "gone.png"}}, RequestError, "control image: 'gone.png' cannot be re"),
        ({"edges": {"image": "edges.png", "scale": "x"}}, RequestError, "control scale: got 'x'"),
    ],
)
def test_what_a_png_says_may_be_wrong(
    recorded: object, kind: type[SdrtError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        controls_from_options(options(), {"control": recorded})
    assert message in str(caught.value)
