"""Requests whose VAE runs in tiles: because they say so, or because memory is short."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest

from sdrt import Bundle, NonFiniteError, NoteWarning, OutOfMemoryError, Pipeline, Request
from sdrt.ask import Answer, Ask, Joiner, split
from sdrt.command_line.main import main
from sdrt.errors import BundleError, DeadlineExceeded, RequestCancelled, RequestError
from sdrt.generation import Generation
from sdrt.result import Result, Step
from sdrt.targets.reservations import VARIABLE
from sdrt_engines import Array, Resolution, Target
from support.backends import opening
from support.bundle_folder import CONFIGS
from support.function_networks import (
    VAE_DECODER,
    VAE_ENCODER,
    Networks,
    decode,
    encode_image,
    pipeline_of,
    pixels,
)
from support.images import sample_image
from support.manifest_edits import remove_record, replace_recorded
from support.memory_limits import Limit
from support.toy_bundle import write_toy_bundle

# The toy's networks, with the configuration of Stable Diffusion's VAE: 5 GiB for 1024×1024 pixels,
# 1.25 GiB for 512×512, 320 MiB for 256×256.
VAE = CONFIGS["vae_decoder/config.json"] | {
    "block_out_channels": [128, 256, 512, 512],
    "sample_size": 512,
}
TILES: dict[str, Any] = {"vae_tiling": True, "vae_tile_size": 64}  # of 8 latents
SIZE: dict[str, Any] = {
    "width": 128,
    "height": 72,
}  # 16×9 latents: tiles in two rows and three columns


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_toy_bundle(tmp_path_factory.mktemp("toy") / "bundle")
    replace_recorded(root, "vae_decoder/config.json", json.dumps(VAE).encode())
    return root


def request(**options: Any) -> Request:
    size = {"width": 1024, "height": 1024}
    return Request("a red circle", **{**size, "num_inference_steps": 1, "seed": 1, **options})


def finished(pipe: Pipeline, request: Request) -> Result:
    stream = pipe.stream(request)
    list(stream)
    return stream.result


@pytest.mark.parametrize(("free", "tile"), [(7000, None), (2000, 512), (700, 256)])
def test_memory_chooses_the_largest_tile_that_fits(
    free: int, tile: int | None, large: Path, limit: Limit
) -> None:
    with Pipeline.open(large, "cpu", num_threads=1) as pipe:
        expected = finished(pipe, request())
    with Pipeline.open(large, "cpu", num_threads=1) as pipe:
        limit(free)
        assert pipe.forecast(request()).fits
        result = finished(pipe, request())
        assert (result.request.vae_tiling, result.request.vae_tile_size) == (bool(tile), tile)
        assert result.parameters[0].get("vae_tile_size") == tile
        codes = [note.code for note in result.notes]
        assert codes.count("vae_tiled") == (1 if tile else 0)
        np.testing.assert_array_equal(pixels(result.images), pixels(expected.images))


def test_the_note_says_why(large: Path, limit: Limit) -> None:
    with Pipeline.open(large, "cpu", num_threads=1) as pipe:
        limit(2000)
        with pytest.warns(NoteWarning, match="vae_tiling: the VAE runs in tiles of 512×512 pixels"):
            pipe(request())
        for asked in (request(vae_tiling=True), request(width=512, height=512)):
            assert "vae_tiled" not in {note.code for note in finished(pipe, asked).notes}


def test_the_refusal_says_that_tiles_would_fit(large: Path, limit: Limit) -> None:
    with Pipeline.open(large, "cpu", num_threads=1) as pipe:
        limit(2000)
        with pytest.raises(OutOfMemoryError, match="set vae_tiling and vae_tile_size=512 or take "):
            pipe(request(vae_tiling=False))
        limit(700)
        with pytest.raises(OutOfMemoryError, match="set vae_tiling and vae_tile_size=256 or take "):
            pipe(request(vae_tiling=True))
        limit(100)
        with pytest.raises(OutOfMemoryError) as raised:
            pipe(request())
        assert "vae_tiling" not in str(raised.value)


def test_tiles_come_before_another_target(large: Path, limit: Limit) -> None:
    bundle = Bundle.open(large)
    with Pipeline(bundle, Resolution(Target("cpu"), others=(opening("openvino"),))) as pipe:
        limit(2000)
        assert finished(pipe, request()).request.vae_tiling
        assert pipe.target == Target("cpu")


def test_an_image_is_generated_again_in_the_tiles_of_the_original(
    large: Path,
    limit: Limit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, again, whole = (str(tmp_path / f"{name}.png") for name in ("one", "again", "whole"))
    size = ["--width", "1024", "--height", "1024", "--steps", "1", "--seed", "1"]
    limit(2000)
    assert main(["run", str(large), "a", "--target", "cpu", *size, "-o", one]) == 0
    assert "note: vae_tiling: the VAE runs in tiles" in capsys.readouterr().err
    monkeypatch.delenv(VARIABLE)
    assert main(["run", "--from-image", one, "--target", "cpu", "-o", again]) == 0
    assert "vae_tiling" not in capsys.readouterr().err
    assert _recorded(one) == _recorded(again)
    assert _recorded(one)["vae_tile_size"] == 512
    base = ["run", "--from-image", one, "--target", "cpu", "-o", whole]
    assert main([*base, "--no-vae-tiling"]) == 0
    assert not _recorded(whole).keys() & {"vae_tiling", "vae_tile_size"}
    assert main([*base, "--vae-tiling", "--vae-tile-size", "100"]) == 1
    error = capsys.readouterr().err
    assert error.endswith(
        "sdrt: vae_tile_size: got 100, expected a multiple of 8, at least 32, for this VAE\n"
    )


def _recorded(path: str) -> dict[str, Any]:
    from sdrt.metadata.png import read_record

    return dict(read_record(Path(path)).parameters)


def test_a_vae_of_unknown_size(large: Path, tmp_path: Path) -> None:
    """Without its configuration, tiles are run only if the request says their size."""
    folder = copytree(large, tmp_path / "bundle")
    (folder / "vae_decoder/config.json").unlink()
    remove_record(folder, "vae_decoder/config.json")
    with Pipeline.open(folder, "cpu", num_threads=1) as pipe:
        with pytest.raises(BundleError, match=r"vae_decoder/config.json"):
            pipe(request(vae_tiling=True))
        assert finished(pipe, request(**TILES)).request.vae_tile_size == 64
        assert finished(pipe, request()).request.vae_tiling is False


@pytest.mark.parametrize("size", [100, 24])
def test_a_tile_that_the_vae_cannot_run(size: int, pipe: Pipeline) -> None:
    with pytest.raises(RequestError, match=f"vae_tile_size: got {size}, expected a multiple of 8"):
        pipe("a", vae_tiling=True, vae_tile_size=size)


def test_the_tile_of_the_checkpoint(folder: Path) -> None:
    networks = Networks()
    pipeline_of(folder, networks)("a", vae_tiling=True, num_inference_steps=1, **SIZE)
    sizes = {feeds["latent_sample"].shape[2:] for feeds in networks.feeds["vae_decoder"]}
    assert (4, 4) in sizes  # 32 pixels, diffusers' default
    assert max(sizes) == (4, 4)


def test_previews_and_input_images_run_in_tiles(large: Path) -> None:
    networks = Networks(vae_encoder=(VAE_ENCODER, encode_image))
    stream = pipeline_of(large, networks).stream(
        "a", image=sample_image(128, 72), strength=0.5, num_inference_steps=4, **TILES
    )
    previews = [step.preview() for step in stream]
    assert len(previews) == 2
    assert networks.num_runs["vae_encoder"] == 6
    assert networks.num_runs["vae_decoder"] == 3 * 6
    for feeds in (*networks.feeds["vae_decoder"], *networks.feeds["vae_encoder"]):
        (array,) = feeds.values()
        assert max(array.shape[2:]) <= (64 if array.shape[1] == 3 else 8)


def test_a_batch_is_its_images_alone(folder: Path) -> None:
    pipe = pipeline_of(folder, Networks())
    steps: dict[str, Any] = {"num_inference_steps": 2, **SIZE, **TILES}
    both = pipe(["a", "b"], seed=3, **steps).images
    alone = [pipe(prompt, seed=3 + i, **steps).images[0] for i, prompt in enumerate("ab")]
    np.testing.assert_array_equal(pixels(both), pixels(alone))


def test_a_server_can_join_tiles(folder: Path) -> None:
    pipe = pipeline_of(folder, Networks())
    requests = [
        Request(prompt, seed=i, num_inference_steps=2, **SIZE, **TILES)
        for i, prompt in enumerate("ab")
    ]
    alone = [pipe(each).images[0] for each in requests]
    joined = _run_joined([pipe.generation(each) for each in requests], pipe._answer)
    np.testing.assert_array_equal(pixels(each.images[0] for each in joined), pixels(alone))


def _run_joined(generations: list[Generation], run: Callable[[Ask], Answer]) -> list[Result]:
    """The results of generations that ask for the same shapes, each run shared by all."""
    all_events, joiner = [each.events() for each in generations], Joiner()
    answers: list[Answer | None] = [None] * len(generations)
    results: list[Result] = []
    while not results:
        asks = []
        for events, answer in zip(all_events, answers, strict=True):
            try:
                event = events.send(answer)
                while isinstance(event, Step):
                    event = events.send(None)
                asks.append(event)
            except StopIteration as end:
                results.append(end.value)
        if asks:
            answers = list(split(run(joiner(asks)), asks))
    return results


def test_nan_in_a_tile_is_an_error(folder: Path) -> None:
    runs: list[int] = []

    def third_is_nan(feeds: dict[str, Array]) -> dict[str, Array]:
        runs.append(1)
        sample = decode(feeds)["sample"]
        return {"sample": sample * np.float32(np.nan) if len(runs) == 3 else sample}

    pipe = pipeline_of(folder, Networks(vae_decoder=(VAE_DECODER, third_is_nan)))
    with pytest.raises(NonFiniteError, match="vae_decoder"):
        pipe("a", num_inference_steps=1, **SIZE, **TILES)
    assert len(runs) == 3


def test_requests_end_between_tiles(folder: Path) -> None:
    runs: list[int] = []

    def cancelling(feeds: dict[str, Array]) -> dict[str, Array]:
        runs.append(1)
        if len(runs) == 2:
            stream.close()
        return decode(feeds)

    pipe = pipeline_of(folder, Networks(vae_decoder=(VAE_DECODER, cancelling)))
    stream = pipe.stream("a", num_inference_steps=1, **SIZE, **TILES)
    with pytest.raises(RequestCancelled):
        list(stream)
    assert len(runs) == 2


def test_the_deadline_holds_between_tiles(folder: Path) -> None:
    runs: list[int] = []

    def slow(feeds: dict[str, Array]) -> dict[str, Array]:
        runs.append(1)
        time.sleep(0.4)
        return decode(feeds)

    pipe = pipeline_of(folder, Networks(vae_decoder=(VAE_DECODER, slow)))
    with pytest.raises(DeadlineExceeded, match="while 'vae_decoder' ran"):
        pipe("a", num_inference_steps=1, deadline=1.5, **SIZE, **TILES)
    assert len(runs) < 6
