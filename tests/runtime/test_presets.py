"""The meaning of a request's speed: as an option, in the result and in its PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sdrt import Bundle, Pipeline, Request, RequestError
from sdrt.denoising import speed_presets
from sdrt.metadata.png import read_record
from sdrt_engines import resolve_target
from support.function_networks import CIRCLE, VAE_ENCODER, Networks, encode_image
from support.images import sample_image

SIZE: dict[str, Any] = {"width": 64, "height": 48, "seed": 3}
KNOWN: dict[str, Any] = {"scheduler": "euler", "num_inference_steps": 20, "guidance_scale": 2.0}
MEANT = speed_presets.forecast_of("balanced", "euler", 20, 2.0)


@pytest.fixture
def pipe(bundle: Bundle) -> Pipeline:
    networks = Networks(vae_encoder=(VAE_ENCODER, encode_image))
    return Pipeline(bundle, resolve_target("cpu"), networks.engines)


def test_a_preset_is_the_option_that_it_stands_for(pipe: Pipeline, tmp_path: Path) -> None:
    preset = pipe(CIRCLE, speed="balanced", **KNOWN, **SIZE)
    option = pipe(CIRCLE, forecast=MEANT, **KNOWN, **SIZE)
    assert preset.num_calls == option.num_calls < (20,)
    assert preset.images[0].tobytes() == option.images[0].tobytes()
    assert (preset.request.speed, preset.request.forecast) == ("balanced", MEANT)
    assert not [note for note in preset.notes if note.field == "speed"]
    preset.save(tmp_path / "out.png")
    recorded = read_record(tmp_path / "out.png").parameters
    assert (recorded["forecast"], recorded.get("speed")) == (MEANT, None)


def test_exact_is_the_default(pipe: Pipeline) -> None:
    default, exact = pipe(CIRCLE, **KNOWN, **SIZE), pipe(CIRCLE, speed="exact", **KNOWN, **SIZE)
    assert (default.request.speed, default.num_calls) == ("exact", (20,))
    assert default.images[0].tobytes() == exact.images[0].tobytes()


def test_a_pipeline_s_speed_is_that_of_requests_without_their_own(bundle: Bundle) -> None:
    pipe = Pipeline(bundle, resolve_target("cpu"), Networks().engines, speed="balanced")
    request = Request(CIRCLE, **KNOWN, **SIZE)
    assert pipe.resolve(request).forecast == MEANT
    assert pipe(request).num_forecasts > (0,)
    assert pipe(request, speed="exact").num_forecasts == (0,)


@pytest.mark.parametrize(
    "options", [{"forecast": 13}, {"guidance_interval": (0.0, 0.9)}], ids=["forecast", "interval"]
)
def test_options_that_are_given_replace_the_preset_s(
    options: dict[str, Any], pipe: Pipeline
) -> None:
    resolved = pipe.resolve(Request(CIRCLE, speed="fast", **options, **KNOWN, **SIZE))
    assert resolved.forecast == options.get("forecast")
    assert resolved.guidance_interval == options.get("guidance_interval")
    assert pipe.resolve(resolved) == resolved


@pytest.mark.parametrize(
    "options",
    [
        {"num_inference_steps": 19},
        {"guidance_scale": 20.0},
        {"timesteps": [*range(950, -1, -50)]},
        {"image": sample_image(64, 48), "strength": 0.5},
        {"scheduler": "lcm"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_preset_without_a_measured_saving_is_exact_and_says_so(
    options: dict[str, Any], pipe: Pipeline
) -> None:
    result = pipe(CIRCLE, speed="balanced", **{**KNOWN, **SIZE, **options})
    (note,) = (note for note in result.notes if note.code == "speed_exact")
    calls = result.num_calls[0]
    assert set(result.num_forecasts) == {0}
    assert note.message.startswith(
        "speed: 'balanced' leaves out nothing here, as no measured saving fits "
        f"{options.get('scheduler', 'euler')} with these {calls} calls at guidance "
    )
    assert note.message.endswith(" (some for 20 to 50 calls)") == (
        "guidance_scale" not in options and "scheduler" not in options
    )


def test_a_refiner_is_exact(bundle: Bundle) -> None:
    refined = Pipeline(bundle.refined_by(bundle), resolve_target("cpu"))
    resolved = refined.resolve(Request(CIRCLE, speed="balanced", **KNOWN, **SIZE))
    assert resolved.forecast is None


def test_unknown_speeds_are_refused(bundle: Bundle) -> None:
    with pytest.raises(RequestError, match=r"^speed: got 'quick', "):
        Request(CIRCLE, speed="quick")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"^speed: got 'quick', "):
        Pipeline.open(bundle.root, speed="quick")  # type: ignore[arg-type]
