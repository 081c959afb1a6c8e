"""Asks for many rows run in as many parts as memory requires."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sdrt import Pipeline, Request
from sdrt.control import Control
from sdrt.targets import parts
from sdrt.targets.parts import MAX_BYTES
from sdrt_engines import Array, OutOfMemoryError
from support.function_networks import (
    CIRCLE,
    STAR,
    UNET,
    Function,
    Networks,
    pipeline_of,
    pixels,
    predict,
)
from support.images import sample_image
from support.toy_bundle import write_toy_bundle


def with_room_for(num_rows: int) -> Function:
    """The UNet on a device whose memory holds that many rows."""

    def run(feeds: dict[str, Array]) -> dict[str, Array]:
        if len(feeds["sample"]) > num_rows:
            raise OutOfMemoryError("unet: there is not enough memory")
        return predict(feeds)

    return run


def rows_of(networks: Networks, name: str = "unet") -> list[int]:
    return [len(feeds["sample"]) for feeds in networks.feeds[name]]


def images_of(pipe: Pipeline) -> np.ndarray:
    stream = pipe.stream([CIRCLE, STAR, CIRCLE], num_inference_steps=2, seed=1)
    for _ in stream:
        pass
    return pixels(stream.result.images)


def test_a_batch_that_does_not_fit_runs_in_parts(folder: Path) -> None:
    small = Networks(unet=(UNET, with_room_for(2)))
    np.testing.assert_array_equal(
        images_of(pipeline_of(folder, small)), images_of(pipeline_of(folder, Networks()))
    )
    assert rows_of(small) == [6, 3, *[2] * 3, *[2] * 3]  # the size that fits is remembered


def test_a_row_that_does_not_fit_is_an_error(folder: Path) -> None:
    networks = Networks(unet=(UNET, with_room_for(0)))
    with pytest.raises(OutOfMemoryError, match="there is not enough memory"):
        images_of(pipeline_of(folder, networks))
    assert rows_of(networks) == [6, 3, 2, 1]


def test_a_large_batch_runs_in_parts_from_the_start(folder: Path) -> None:
    networks = Networks()
    request = Request(
        [CIRCLE] * 20, width=1024, height=512, num_inference_steps=1, guidance_scale=1, seed=1
    )
    for _ in pipeline_of(folder, networks).stream(request):
        break  # no need to decode
    assert rows_of(networks) == [15, 5]
    assert 15 * 4 * 128 * 64 * 4 <= MAX_BYTES < 17 * 4 * 128 * 64 * 4


def test_controlnets_run_with_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipeline.open(write_toy_bundle(tmp_path / "bundle"), "cpu", num_threads=1)
    edges = {"edges": Control(sample_image(16, 16), end=0.5)}

    def generated() -> np.ndarray:
        stream = pipe.stream(
            ["a", "b", "c"], control=edges, guess_mode=True, num_inference_steps=2, seed=1
        )
        assert len(list(stream)) == 2
        return pixels(stream.result.images)

    whole = generated()
    monkeypatch.setattr(parts, "MAX_BYTES", 1)  # each row alone; the net runs on three of six
    np.testing.assert_array_equal(generated(), whole)
