"""The demo model with an outline: the outline sets shape and place, the prompt the colours."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import sdrt
from sdrt_export.demo.edge_judge import ControlPair, held_out_pairs, score_control

NUM_PAIRS = 20


@pytest.fixture(scope="module")
def pipeline() -> Iterator[sdrt.Pipeline]:
    with sdrt.Pipeline.open("demo", target="cpu", num_threads=1) as pipeline:
        yield pipeline


def _draw(
    pipeline: sdrt.Pipeline, pairs: Sequence[ControlPair], **settings: Any
) -> Iterator[tuple[ControlPair, npt.NDArray[np.uint8]]]:
    """Each pair and its image; pair i has seed 2000 + i."""
    for i, pair in enumerate(pairs):
        control = {"edges": sdrt.Control(Image.fromarray(pair.outline), **settings)}
        image = pipeline(pair.prompt, control=control, seed=2000 + i, num_inference_steps=20)
        yield pair, np.asarray(image.images[0])


def test_the_outline_decides_the_edges_and_the_prompt_the_colours(pipeline: sdrt.Pipeline) -> None:
    scores = score_control(_draw(pipeline, held_out_pairs(NUM_PAIRS)))
    assert scores["edge_iou"] >= 0.75
    assert scores["colours"] >= 0.95


def test_without_scale_the_outline_decides_nothing(pipeline: sdrt.Pipeline) -> None:
    scores = score_control(_draw(pipeline, held_out_pairs(8), scale=0.0))
    assert scores["edge_iou"] < 0.25
    assert scores["colours"] >= 0.95


def test_the_later_steps_decide_the_edges(pipeline: sdrt.Pipeline) -> None:
    """In this model they do: without control, its later steps follow the words."""
    first, second = (
        score_control(_draw(pipeline, held_out_pairs(6), start=start, end=end))["edge_iou"]
        for start, end in ((0.0, 0.5), (0.5, 1.0))
    )
    assert first < 0.4
    assert second > 0.6
