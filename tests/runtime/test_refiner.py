"""A second bundle that takes the last steps, through networks that are Python functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdrt import Bundle, BundleError, Pipeline, Request, RequestError
from sdrt.errors import SamplerError
from sdrt_engines import (
    Array,
    FunctionEngine,
    resolve_target,
)
from support.function_networks import (
    BLURRY,
    CIRCLE,
    NETWORKS,
    STAR,
    VAE_ENCODER,
    Networks,
    encode_image,
    pixels,
    predict,
)
from support.images import mask, sample_image

IMAGE, MASK = sample_image(64, 48), mask(64, 48, (16, 8, 40, 32))
SHORT: dict[str, Any] = {"num_inference_steps": 5, "seed": 0, "width": 64, "height": 48}


def predict_otherwise(feeds: dict[str, Array]) -> dict[str, Array]:
    return {"out_sample": predict(feeds)["out_sample"] * np.float32(0.5)}


def networks_of(refiner_unet: Any = predict_otherwise) -> Networks:
    refiner = {f"refiner.{name}": network for name, network in NETWORKS.items()}
    refiner["refiner.unet"] = NETWORKS["unet"][0], refiner_unet
    return Networks(vae_encoder=(VAE_ENCODER, encode_image), **refiner)


def pipeline_of(bundle: Bundle, networks: Networks, refiner: Bundle | None = None) -> Pipeline:
    refined = bundle.refined_by(refiner or bundle)
    return Pipeline(refined, resolve_target("cpu"), networks.engines)


@pytest.fixture
def networks() -> Networks:
    return networks_of()


@pytest.fixture
def pipe(bundle: Bundle, networks: Networks) -> Pipeline:
    return pipeline_of(bundle, networks)


def timesteps(networks: Networks, name: str) -> list[float]:
    return [float(feeds["timestep"][0]) for feeds in networks.feeds[name]]


# --- who runs when


@pytest.mark.parametrize(
    ("options", "of_base", "of_refiner"),
    [
        ({}, [801, 601, 401, 201], [1]),
        ({"refiner_start": 0.8}, [801, 601, 401, 201], [1]),
        ({"refiner_start": 0.5}, [801, 601], [401, 201, 1]),
        ({"refiner_start": 0.79}, [801, 601, 401], [201, 1]),
        ({"refiner_start": 1}, [801, 601, 401, 201, 1], []),
        (  # diffusers repeats the step that is cut
            {"scheduler": "heun", "num_inference_steps": 4, "refiner_start": 0.5},
            [999, 666, 666],
            [666, 333, 333, 0, 0],
        ),
    ],
)
def test_the_schedule_is_cut_as_in_diffusers(
    options: dict[str, Any],
    of_base: Sequence[int],
    of_refiner: Sequence[int],
    pipe: Pipeline,
    networks: Networks,
) -> None:
    steps = list(pipe.stream(CIRCLE, **SHORT | options))
    assert timesteps(networks, "unet") == of_base
    assert timesteps(networks, "refiner.unet") == of_refiner
    assert [step.index for step in steps] == [*range(len(of_base) + len(of_refiner))]
    assert {step.total for step in steps} == {len(steps)}
    assert [step.timestep for step in steps] == [*of_base, *of_refiner]


def test_the_refiner_reads_its_own_text_and_decodes(pipe: Pipeline, networks: Networks) -> None:
    result = pipe(CIRCLE, negative_prompt=BLURRY, **SHORT)
    expected = {"text_encoder": 1, "unet": 4, "vae_encoder": 0, "vae_decoder": 0}
    expected |= {"refiner.text_encoder": 1, "refiner.unet": 1, "refiner.vae_decoder": 1}
    assert networks.num_runs == expected
    assert [*result.timings.seconds] == [
        *("loading", "text_encoder", "denoiser", "refiner_text_encoder", "refiner_denoiser"),
        "refiner_vae_decoder",
    ]


def test_without_a_part_of_it_the_refiner_is_not_opened(bundle: Bundle) -> None:
    networks = networks_of()
    for name in [name for name in networks.engines if name.startswith("refiner.")]:
        del networks.engines[name]  # the bundle's own has other networks
    result = pipeline_of(bundle, networks)(CIRCLE, refiner_start=1, **SHORT)
    assert result.request.refiner_start == 1
    assert "refiner_denoiser" not in result.timings.seconds


def test_guidance_steps_and_scheduler_are_the_request_s(bundle: Bundle) -> None:
    """The refiner's own defaults do not count: a PNG could not record both."""
    networks = networks_of()
    manifest = replace(bundle.manifest, defaults={"guidance_scale": 1, "num_inference_steps": 30})
    pipe = pipeline_of(bundle, networks, replace(bundle, manifest=manifest))
    result = pipe(CIRCLE, scheduler="euler", **{**SHORT, "num_inference_steps": None})
    assert result.request.guidance_scale == 3  # as the toy bundle says
    assert len(networks.feeds["refiner.unet"]) == 10
    assert len(networks.feeds["refiner.unet"][0]["sample"]) == 2


# --- one image in two parts


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "euler_a"])
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_refiner_with_the_same_networks_changes_nothing(
    scheduler: str, share: float, bundle: Bundle
) -> None:
    """These samplers remember nothing; the noise continues where the first part left it."""
    pipe = pipeline_of(bundle, networks_of(predict))
    alone, refined = (
        pipe([CIRCLE, STAR], refiner_start=start, scheduler=scheduler, **SHORT)
        for start in (1, share)
    )
    np.testing.assert_array_equal(refined.latents, alone.latents)
    np.testing.assert_array_equal(pixels(refined.images), pixels(alone.images))


def test_an_image_is_the_same_alone_and_in_a_batch(pipe: Pipeline) -> None:
    together = pipe([CIRCLE, STAR], scheduler="euler_a", **SHORT)
    alone = pipe(STAR, scheduler="euler_a", **{**SHORT, "seed": 1})
    np.testing.assert_array_equal(together.latents[1:], alone.latents)


def test_image_to_image_is_refined_too(pipe: Pipeline, networks: Networks) -> None:
    pipe(CIRCLE, image=IMAGE, strength=0.6, **SHORT)
    assert timesteps(networks, "unet") == [401, 201]
    assert timesteps(networks, "refiner.unet") == [1]
    assert networks.num_runs["vae_encoder"] == 1


def test_the_refiner_keeps_what_the_mask_keeps(pipe: Pipeline, networks: Networks) -> None:
    """As in diffusers, which blends in the latents that it is given."""
    options: dict[str, Any] = {"image": IMAGE, "mask_image": MASK, "strength": 1, **SHORT}
    *_, before, last = pipe.stream(CIRCLE, **options, refiner_start=0.8)
    alone = pipe(CIRCLE, **options, refiner_start=1)
    kept = np.ones((6, 8), bool)
    kept[1:4, 2:5] = False
    for step in (before, last):  # without noise, although a step is left after the first
        np.testing.assert_array_equal(step.latents[..., kept], alone.latents[..., kept])
    assert abs(last.latents - before.latents).max() > 1e-3


# --- refusals


def test_a_start_without_a_refiner(bundle: Bundle) -> None:
    pipe = Pipeline(bundle, resolve_target("cpu"), Networks().engines)
    with pytest.raises(RequestError) as caught:
        pipe.resolve(Request(CIRCLE, refiner_start=0.8))
    assert str(caught.value) == (
        "refiner_start was given without a refiner: give --refiner BUNDLE, in Python "
        "Pipeline.open(bundle, refiner=…)"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"refiner_start": 0.9999},
            "refiner_start: got 0.9999, which leaves no step to the refiner: give a smaller "
            "number, more steps, or 1 to leave the refiner out",
        ),
        (
            {"refiner_start": 0.1},
            "refiner_start: got 0.1, which leaves no step to the bundle's own UNet: give a larger "
            "number, more steps, or 1 to leave the refiner out",
        ),
        ({"image": IMAGE, "strength": 0.2}, "got 0.8, which leaves no step to the bundle's own"),
    ],
)
def test_a_part_without_steps(options: dict[str, Any], message: str, pipe: Pipeline) -> None:
    with pytest.raises(RequestError) as caught:
        pipe.resolve(Request(CIRCLE, **SHORT | options))
    assert message in str(caught.value)


def test_a_scheduler_that_cannot_start_late(bundle: Bundle) -> None:
    """It is refused before the first part runs. The bundle's PNDM has Runge-Kutta steps."""
    pipe = pipeline_of(bundle, networks := networks_of())
    with pytest.raises(SamplerError, match="Runge-Kutta steps starts at timestep 0"):
        pipe.stream(CIRCLE, scheduler="pndm", **SHORT)
    assert not any(networks.num_runs.values())


def test_a_refiner_of_other_latents(bundle: Bundle) -> None:
    latents = replace(bundle.family.latents, scaling_factor=0.5, mean=(0.0,) * 4)
    manifest = replace(bundle.manifest, family=replace(bundle.family, latents=latents))
    other = replace(bundle, root=Path("other"), manifest=manifest)
    with pytest.raises(BundleError) as caught:
        bundle.refined_by(other)
    assert str(caught.value) == (
        "other: a refiner of another latent space: got scaling_factor 0.5, mean (0.0, 0.0, "
        "0.0, 0.0), expected scaling_factor 0.13, mean None as in "
        f"{bundle.root}: use a refiner of the same family"
    )


def test_a_refiner_that_takes_a_mask(bundle: Bundle) -> None:
    facts = replace(bundle.family.denoiser, extra_channels="mask")
    manifest = replace(bundle.manifest, family=replace(bundle.family, denoiser=facts))
    with pytest.raises(BundleError, match="this refiner's UNet takes a mask, expected one that"):
        bundle.refined_by(replace(bundle, manifest=manifest))


# --- the end


def test_a_closed_pipeline_closes_both(bundle: Bundle, networks: Networks) -> None:
    closed: list[str] = []
    for name, engine in networks.engines.items():
        networks.engines[name] = _Noting(engine, name, closed)
    pipeline_of(bundle, networks).close()
    assert {"unet", "refiner.unet"} <= set(closed)


class _Noting(FunctionEngine):
    """An engine that notes when it is closed."""

    def __init__(self, engine: FunctionEngine, name: str, closed: list[str]) -> None:
        super().__init__(engine.signature, lambda feeds: {}, name=name)
        self._name, self._closed_engines = name, closed

    def close(self) -> None:
        self._closed_engines.append(self._name)
        super().close()
