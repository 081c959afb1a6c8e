"""Requests that do not fit into memory are refused before a network runs, or run in parts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest

from sdrt import Bundle, OutOfMemoryError, Pipeline, Request
from sdrt.command_line.main import main
from sdrt.targets.reservations import VARIABLE
from sdrt.targets.tuned import Shape
from sdrt.tuning.candidates import Candidate
from sdrt.tuning.measuring import measures_of
from sdrt.tuning.workload import workload_of
from sdrt.verification.verdict import verify_component
from sdrt_engines import Resolution, Target
from support.backends import opening, refusing, skip_unless_it_opens
from support.function_networks import pixels
from support.manifest_edits import replace_recorded
from support.memory_limits import Limit
from support.toy_bundle import write_toy_bundle

MIB = 2**20
ROW = 67.2 * MIB
# The toy's networks, with the configuration of a UNet that takes 67 MiB for each row of 128×128
# pixels, and sixteen times as much when both sides double.
UNET = {
    "block_out_channels": [320, 640],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "attention_head_dim": 128,
    "sample_size": 16,
    "cross_attention_dim": 768,
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_toy_bundle(tmp_path_factory.mktemp("toy") / "bundle")
    replace_recorded(root, "unet/config.json", json.dumps(UNET).encode())
    return root


def request(size: int, images: int = 1) -> Request:
    return Request(
        "a red circle",
        width=size,
        height=size,
        num_images_per_prompt=images,
        num_inference_steps=1,
        seed=1,
    )


def test_a_request_that_does_not_fit_is_refused(bundle: Path, limit: Limit) -> None:
    with Pipeline.open(bundle, "cpu", num_threads=1) as pipe:
        limit(600)
        with pytest.raises(OutOfMemoryError) as raised:
            pipe(request(8192))
        message = str(raised.value)
        assert message.startswith("8192×8192 pixels on target cpu: expected to take ")
        assert f"within {VARIABLE}: take 192×192" in message
        assert pipe.forecast(request(192)).fits
        assert not pipe.forecast(request(256)).fits


def test_the_proportions_are_kept(bundle: Path, limit: Limit) -> None:
    with Pipeline.open(bundle, "cpu", num_threads=1) as pipe:
        limit(600)
        with pytest.raises(OutOfMemoryError, match="take 320×128"):
            pipe(Request("a", width=8192, height=4096))


def test_input_images_are_no_way_around_it(bundle: Path, limit: Limit) -> None:
    from PIL.Image import new

    with Pipeline.open(bundle, "cpu", num_threads=1) as pipe:
        limit(600)
        image = new("RGB", (64, 64))
        for options in (
            {"image": image},
            {"image": image, "mask_image": image},
            {"control": {"edges": image}},
        ):
            with pytest.raises(OutOfMemoryError, match="2048×2048 pixels"):
                pipe("a", width=2048, height=2048, resize="stretch", **options)


def test_a_batch_runs_in_the_parts_that_fit(bundle: Path, limit: Limit) -> None:
    with Pipeline.open(bundle, "cpu", num_threads=1) as pipe:
        limit(400)
        assert pipe.forecast(request(128, images=8)).rows == 4
        in_parts = pipe(request(128, images=8))
        (rows,) = {
            rows for (name, _), rows in pipe.engines.memory._max_rows.items() if name == "unet"
        }
        assert rows == 4
    with Pipeline.open(bundle, "cpu", num_threads=1) as pipe:
        np.testing.assert_array_equal(
            pixels(in_parts.images), pixels(pipe(request(128, images=8)).images)
        )


def test_memory_that_a_pipeline_holds_is_not_needed_twice(bundle: Path, limit: Limit) -> None:
    with Pipeline.open(bundle, "cpu", num_threads=1) as pipe:
        before = pipe.forecast(request(128, images=2))
        pipe(request(128, images=2))
        after = pipe.forecast(request(128, images=2))
        assert before.further > 4 * ROW
        assert (after.further, after.peak) == (0, before.peak)
        assert pipe.forecast(request(128, images=4)).further == pytest.approx(4 * ROW)
        limit(0)
        pipe(request(128, images=2))


def test_requests_at_once_do_not_count_on_the_same_memory(bundle: Path, limit: Limit) -> None:
    with (
        Pipeline.open(bundle, "cpu", num_threads=1) as first,
        Pipeline.open(bundle, "cpu", num_threads=1) as second,
    ):
        limit(1500)
        assert second.forecast(request(256)).fits
        stream = first.stream(request(256))
        next(stream)  # toys do not take what was forecast
        assert not second.forecast(request(256)).fits
        assert first.forecast(request(256)).fits  # large runs of one pipeline take turns
        stream.close()
        assert second.forecast(request(256)).fits


def test_large_runs_take_turns(bundle: Path) -> None:
    with Pipeline.open(bundle, "cpu", num_threads=1) as pipe:
        pipe(request(128))
        memory = pipe.engines.memory
        barrier = Barrier(4)

        def run() -> None:
            barrier.wait()
            pipe(request(128))

        threads = [Thread(target=run) for _ in range(4)]
        with memory._turn:
            for thread in threads:
                thread.start()
            time.sleep(0.1)
            assert all(thread.is_alive() for thread in threads)
        for thread in threads:
            thread.join()


def test_auto_takes_a_target_that_needs_less(bundle: Path, limit: Limit) -> None:
    skip_unless_it_opens("openvino")
    others = (refusing("cuda", "not here"), opening("openvino"))
    pipe = Pipeline(Pipeline.open(bundle).bundle, Resolution(Target("cpu"), others=others))
    with pipe:
        limit(700)
        result = pipe(request(320))
        assert pipe.target == Target("openvino")
        assert "after cpu: 320×320 pixels on target cpu: expected to take" in result.engine


def test_auto_stays_if_no_target_fits(bundle: Path, limit: Limit) -> None:
    others = (refusing("cuda", "not here"), opening("openvino"))
    pipe = Pipeline(Pipeline.open(bundle).bundle, Resolution(Target("cpu"), others=others))
    with pipe:
        limit(600)
        with pytest.raises(OutOfMemoryError, match="8192×8192"):
            pipe(request(8192))
        assert (pipe.target, pipe.refusals) == (Target("cpu"), ())


def test_the_refusal_can_be_switched_off(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    with Pipeline.open(bundle, "cpu", num_threads=1) as pipe:
        assert pipe.forecast(request(8192)).fits


def test_verify_and_tune_report_what_does_not_fit(bundle: Path, limit: Limit) -> None:
    opened, shape, cpu = Bundle.open(bundle), Shape(128, 128), Target("cpu")
    measures = measures_of(opened, {shape: workload_of(opened, shape)})
    limit(100)
    verdict = verify_component(opened, "unet", cpu, num_threads=1)
    assert str(verdict.error).startswith("unet on target cpu: expected to take 134 MiB")
    with pytest.raises(OutOfMemoryError, match="unet on target cpu"):
        measures.seconds(Candidate(cpu, 1), shape, "step")


def test_the_command_line_says_it_in_one_line(
    bundle: Path, limit: Limit, capsys: pytest.CaptureFixture[str]
) -> None:
    limit(600)
    options = ["--height", "8192", "--width", "8192", "--target", "cpu"]
    assert main(["run", str(bundle), "a", *options]) == 1
    _, error = capsys.readouterr()
    assert error.startswith("sdrt: 8192×8192 pixels on target cpu: expected to take")
    assert error.count("\n") == 1
