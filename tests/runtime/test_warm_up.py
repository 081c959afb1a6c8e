"""`Pipeline.warm_up`: the networks of later requests are opened and run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sdrt import Bundle, NoteWarning, Pipeline, RequestError, SdrtError
from sdrt.command_line.main import main
from sdrt_engines import Resolution, Target
from support.function_networks import (
    CONTROLLED_UNET,
    NETWORKS,
    VAE_ENCODER,
    Networks,
    control,
    controlnet,
    encode_image,
    predict_controlled,
)
from support.images import mask, sample_image
from support.toy_bundle import write_toy_bundle

IMAGE, MASK = sample_image(64, 48), mask(64, 48, (16, 8, 40, 32))


@pytest.fixture
def networks() -> Networks:
    return Networks(
        vae_encoder=(VAE_ENCODER, encode_image),
        unet_controlled=(CONTROLLED_UNET, predict_controlled),
        controlnet_edges=(controlnet(3), control),
    )


@pytest.fixture
def pipe(bundle: Bundle, networks: Networks) -> Pipeline:
    return Pipeline(bundle, Resolution(Target("cpu")), networks.engines)


def shapes(networks: Networks, name: str, tensor: str) -> list[tuple[int, ...]]:
    """The shapes of an input in all runs."""
    return [feeds[tensor].shape for feeds in networks.feeds[name]]


def run(networks: Networks) -> set[str]:
    return set(+Counter(networks.num_runs))


def test_every_size_runs_with_its_batch(pipe: Pipeline, networks: Networks) -> None:
    pipe.warm_up([(64, 48), (32, 128)], batch=3, guidance_scale=2)
    assert run(networks) == {"text_encoder", "unet", "vae_decoder"}
    assert shapes(networks, "text_encoder", "input_ids") == [(2, 77)]  # kept for the second size
    assert shapes(networks, "unet", "sample") == 2 * [(6, 4, 8, 6)] + 2 * [(6, 4, 4, 16)]
    sizes = {shape[2:] for shape in shapes(networks, "vae_decoder", "latent_sample")}
    assert sizes == {(8, 6), (4, 16)}


def test_by_default_the_bundle_s_own_size(pipe: Pipeline, networks: Networks) -> None:
    pipe.warm_up(guidance_scale=1)
    size = pipe.bundle.defaults["height"] // 8
    assert shapes(networks, "unet", "sample") == 2 * [(1, 4, size, size)]


@pytest.mark.parametrize("scheduler", [None, "euler", "heun", "lcm"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"image": IMAGE}, {"vae_encoder"}),
        ({"image": IMAGE, "strength": 0.1, "num_inference_steps": 20}, {"vae_encoder"}),
        ({"image": IMAGE, "mask_image": MASK}, {"vae_encoder"}),
        ({"control": {"edges": IMAGE}, "timesteps": [900]}, {"controlnet_edges"}),
    ],
)
def test_options_decide_which_networks_run(
    options: dict[str, Any],
    expected: set[str],
    scheduler: str | None,
    pipe: Pipeline,
    networks: Networks,
) -> None:
    pipe.warm_up(scheduler=scheduler, **options)
    unet = "unet_controlled" if "control" in options else "unet"
    assert run(networks) == {"text_encoder", unet, "vae_decoder"} | expected
    assert set(shapes(networks, unet, "sample")) == {(2, 4, 6, 8)}
    assert networks.num_runs[unet] >= 2


@pytest.mark.parametrize("start", [None, 1])
def test_the_refiner_runs_unless_it_is_left_out(start: float | None, bundle: Bundle) -> None:
    networks = Networks(**{f"refiner.{name}": network for name, network in NETWORKS.items()})
    pipe = Pipeline(bundle.refined_by(bundle), Resolution(Target("cpu")), networks.engines)
    pipe.warm_up([(64, 64)], refiner_start=start)
    refined = {"refiner.text_encoder", "refiner.unet", "refiner.vae_decoder"}
    assert run(networks) & refined == (set() if start == 1 else refined)


def test_the_first_request_loads_nothing(tmp_path: Path) -> None:
    with Pipeline.open(write_toy_bundle(tmp_path / "toy"), "cpu", num_threads=1) as pipe:
        for _ in range(2):
            pipe.warm_up([(64, 64)])
            assert {*pipe.engines._open} == {"text_encoder", "unet", "vae_decoder"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": [(64, 64), (60, 64)]}, "height: got 60, expected a multiple of 8"),
        (
            {"sizes": [(64, 0)]},
            r"sizes\[0\] \(width\): got 0|sizes\[0\]\[1\] \(width\): got 0, exp",
        ),
        ({"sizes": [64]}, r"sizes\[0\]: got 64, expected a pair \(height, width\)"),
        ({"sizes": 64}, r"sizes: got 64, expected a list of pairs \(height, width\)"),
        ({"sizes": []}, r"sizes: got \[\], expected a list of pairs"),
        ({"sizes": "64x64"}, r"sizes\[0\]: got '6', expected a pair"),
        ({"batch": 0}, "batch: got 0, expected a whole number from 1 to 1024"),
        ({"batch": True}, "batch: got True, expected a whole number"),
        ({"height": 64}, "height: warm_up takes sizes and batch instead"),
        ({"control": {"depth": IMAGE}}, "control: no ControlNet 'depth'"),
        ({"widht": 64}, "unknown parameter 'widht'"),
    ],
)
def test_wrong_arguments_are_refused_before_a_network_runs(
    arguments: dict[str, Any], message: str, pipe: Pipeline, networks: Networks
) -> None:
    with pytest.raises(RequestError, match=message):
        pipe.warm_up(**arguments)
    assert run(networks) == set()


def test_it_contradicts_low_memory(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = Pipeline(bundle, Resolution(Target("cpu")), low_memory=True)
    with pytest.raises(SdrtError, match="warm_up: low_memory keeps no network open"):
        pipe.warm_up()
    assert main(["run", "demo", "a star", "--warm-up", "--low-memory"]) == 2
    assert "--low-memory: not allowed with argument --warm-up" in capsys.readouterr().err


def test_networks_that_cannot_stay_open_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_toy_bundle(tmp_path / "toy")
    with Pipeline.open(root, "cpu", num_threads=1) as pipe:
        monkeypatch.setattr(pipe.engines.memory, "low_memory", True)  # as if memory were short
        with pytest.warns(NoteWarning, match="opened and closed stage by stage"):
            pipe.warm_up([(64, 64)])


def test_the_command_line_gives_the_same_image(tmp_path: Path) -> None:
    command = ["run", "demo", "a red circle", "--seed", "7", "--steps", "2", "--target", "cpu"]
    command += ["--width", "64", "--height", "64", "-o", str(tmp_path / "image.png")]
    images = []
    for option in ("--quiet", "--warm-up", "--low-memory"):
        assert main([*command, option]) == 0
        images.append((tmp_path / "image.png").read_bytes())
    assert images[0] == images[1] == images[2]
