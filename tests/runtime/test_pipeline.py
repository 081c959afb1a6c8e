"""Text to image over networks that are Python functions: every number in an image is traceable."""

import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdrt import Pipeline, Request, SdrtError
from sdrt.errors import NonFiniteError, RequestError
from sdrt.families.family import DenoiserFacts
from sdrt_engines import Array, EngineError, Signature
from support.bundle_folder import write_json
from support.function_networks import (
    BLURRY,
    CIRCLE,
    DISTILLED_UNET,
    NETWORKS,
    NUM_LAYERS,
    OUTPUT,
    STAR,
    STATES,
    TEXT_ENCODER,
    UNET,
    WIDTH,
    Networks,
    encode,
    pipeline_of,
    pixels,
    predict,
)
from support.onnx_writer import spec

# --- what goes where ---


def test_an_image_has_the_size_that_was_asked_for(pipe: Pipeline) -> None:
    result = pipe(CIRCLE, width=64, height=24, num_inference_steps=2, seed=0)
    assert result.images[0].size == (64, 24)
    assert result.images[0].mode == "RGB"
    assert result.latents.shape == (1, 4, 3, 8)
    assert result.latents.dtype == np.float32
    assert len(np.unique(pixels(result.images))) > 10


def test_the_latents_are_scaled_for_the_vae(pipe: Pipeline, networks: Networks) -> None:
    result = pipe(CIRCLE, num_inference_steps=2, seed=0)
    (feeds,) = networks.feeds["vae_decoder"]
    np.testing.assert_allclose(feeds["latent_sample"], result.latents / 0.13, rtol=1e-6)


def test_old_schedules_are_corrected_as_diffusers_corrects_them(
    folder: Path, tmp_path: Path, networks: Networks
) -> None:
    root = shutil.copytree(folder, tmp_path / "bundle")
    old = {"_class_name": "DDIMScheduler", "steps_offset": 0, "clip_sample": True}
    write_json(root / "scheduler" / "scheduler_config.json", old)
    result = pipeline_of(root, networks)(CIRCLE, num_inference_steps=5, seed=0)
    timesteps = [int(feeds["timestep"][0]) for feeds in networks.feeds["unet"]]
    assert timesteps == [801, 601, 401, 201, 1]
    assert abs(result.latents).max() > 1  # not clipped


@pytest.mark.parametrize(
    "options",
    [
        {"scheduler": "ddim", "eta": 0.5},
        {"scheduler": "euler_a"},
        {"scheduler": "dpmpp_2m_sde", "guidance_scale": 0},
        {"guidance_rescale": 0.7, "clip_skip": 1},
    ],
)
def test_an_image_of_a_batch_can_be_made_again_alone(
    pipe: Pipeline, options: dict[str, Any]
) -> None:
    options = {"num_inference_steps": 4, **options}
    prompts, negatives = [CIRCLE, STAR], [BLURRY, ""]
    batch = pipe(prompts, negative_prompt=negatives, num_images_per_prompt=2, seed=40, **options)
    assert batch.seeds == (40, 41, 42, 43)
    for i, seed in enumerate(batch.seeds):
        alone = pipe(prompts[i // 2], negative_prompt=negatives[i // 2], seed=seed, **options)
        np.testing.assert_allclose(batch.latents[i], alone.latents[0], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(pixels(batch.images)[i], pixels(alone.images)[0])
    assert len({image.tobytes() for image in batch.images}) == 4


@pytest.mark.parametrize(("scale", "halves"), [(0, 1), (1, 1), (1.01, 2), (7.5, 2)])
def test_guidance_up_to_one_runs_half_the_batch(
    pipe: Pipeline, networks: Networks, scale: float, halves: int
) -> None:
    pipe(CIRCLE, guidance_scale=scale, num_images_per_prompt=3, num_inference_steps=2, seed=0)
    for feeds in networks.feeds["unet"]:
        assert {len(feed) for feed in feeds.values()} == {3 * halves}


def test_the_negative_prompts_are_the_first_half(pipe: Pipeline, networks: Networks) -> None:
    pipe([CIRCLE, STAR], negative_prompt=BLURRY, num_inference_steps=1, seed=0)
    pipe([BLURRY, CIRCLE, STAR], guidance_scale=1, num_inference_steps=1, seed=0)
    guided, plain = (feeds["encoder_hidden_states"] for feeds in networks.feeds["unet"])
    np.testing.assert_array_equal(guided, plain[[0, 0, 1, 2]])


@pytest.mark.parametrize("scale", [0, 1])
def test_without_guidance_negative_prompts_do_not_matter(pipe: Pipeline, scale: float) -> None:
    with_negative, without = (
        pipe(CIRCLE, negative_prompt=text, guidance_scale=scale, num_inference_steps=3, seed=0)
        for text in (BLURRY, "")
    )
    np.testing.assert_array_equal(with_negative.latents, without.latents)


def test_equal_prompts_are_encoded_once(pipe: Pipeline, networks: Networks) -> None:
    pipe([CIRCLE, STAR, CIRCLE], negative_prompt=STAR, num_images_per_prompt=2, seed=0)
    (feeds,) = networks.feeds["text_encoder"]
    assert feeds["input_ids"].shape == (2, 77)


@pytest.mark.parametrize("clip_skip", [0, 1, 2])
def test_clip_skip_holds_for_the_prompts_alone(
    pipe: Pipeline, networks: Networks, clip_skip: int
) -> None:
    pipe(CIRCLE, negative_prompt=CIRCLE, clip_skip=clip_skip, num_inference_steps=1, seed=0)
    (text,), (unet,) = networks.feeds["text_encoder"], networks.feeds["unet"]
    states = {name: state[0] for name, state in encode(text).items()}
    layer = f"normed_hidden_states.{NUM_LAYERS - clip_skip}" if clip_skip else "last_hidden_state"
    negative, positive = unet["encoder_hidden_states"]
    np.testing.assert_array_equal(negative, states["last_hidden_state"])
    np.testing.assert_array_equal(positive, states[layer])


def test_a_distilled_unet_is_given_the_guidance(folder: Path) -> None:
    networks = Networks(unet=(DISTILLED_UNET, predict))
    pipe = pipeline_of(folder, networks, DenoiserFacts(guidance="embedded"))
    pipe([CIRCLE, STAR], guidance_scale=8.0, num_inference_steps=1, seed=0)
    (feeds,) = networks.feeds["unet"]
    assert feeds["timestep_cond"].shape == (2, 16)  # no second half
    np.testing.assert_allclose(feeds["timestep_cond"][:, 0], math.sin(7000), atol=1e-3)
    assert feeds["encoder_hidden_states"].shape == (2, 77, WIDTH)


@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_an_optimum_unet_is_given_a_single_timestep(folder: Path, dtype: str) -> None:
    inputs = (UNET.inputs[0], spec("timestep", dtype), UNET.inputs[2])
    networks = Networks(unet=(Signature(inputs, UNET.outputs), predict))
    pipeline_of(folder, networks)(CIRCLE, num_inference_steps=5, seed=0)
    timesteps = [feeds["timestep"] for feeds in networks.feeds["unet"]]
    assert [timestep.item() for timestep in timesteps] == [801, 601, 401, 201, 1]
    assert {(timestep.shape, timestep.dtype.name) for timestep in timesteps} == {((), dtype)}


def test_a_unet_of_whole_timesteps_is_not_asked_between_them(folder: Path) -> None:
    inputs = (UNET.inputs[0], spec("timestep", "int64"), UNET.inputs[2])
    pipe = pipeline_of(folder, Networks(unet=(Signature(inputs, UNET.outputs), predict)))
    with pytest.raises(RequestError, match="this UNet takes integers only \\(int64\\)"):
        pipe(CIRCLE, scheduler="euler_karras", num_inference_steps=5, seed=0)


# --- many at once ---


def test_threads_do_not_disturb_each_other(pipe: Pipeline) -> None:
    requests = [
        Request(prompt, seed=seed, num_inference_steps=5, scheduler=scheduler, guidance_scale=scale)
        for seed, scheduler in enumerate(("ddim", "pndm", "euler_a", "dpmpp_2m"))
        for prompt, scale in ((CIRCLE, 7.5), (STAR, 1))
    ]
    one_after_another = [pixels(pipe(request).images) for request in requests]
    with ThreadPoolExecutor(4) as pool:
        at_once = [pixels(result.images) for result in pool.map(pipe, requests)]
    np.testing.assert_array_equal(at_once, one_after_another)


def test_a_closed_pipeline_says_so(pipe: Pipeline) -> None:
    with pipe:
        pipe(CIRCLE, num_inference_steps=1, seed=0)
    with pytest.raises(EngineError, match="closed"):
        pipe(CIRCLE, num_inference_steps=1, seed=0)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"bundle": None}, 'got None, expected the path of a bundle, or "demo"'),
        ({"bundle": b"b"}, "got b'b', expected the path of a bundle"),
        ({"target": None}, "target: got None, known: auto, cpu, "),
        ({"target": 5}, "target: got 5, known: auto, cpu, "),
        ({"target": np.array(["auto", "cpu"])}, "target: got array"),
        ({"num_threads": "x"}, "num_threads: got 'x', expected a whole number from 1 to "),
        ({"num_threads": 10**5000}, "num_threads: got a whole number of 16610 bits"),
    ],
)
def test_values_of_another_type_do_not_open(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(SdrtError) as caught:
        Pipeline.open(**({"bundle": "demo"} | keywords))
    assert message in str(caught.value)


# --- what a request leaves open ---


def test_what_is_left_open_is_resolved(pipe: Pipeline) -> None:
    resolved = pipe.resolve(Request(CIRCLE))
    assert (resolved.height, resolved.width) == (128, 128)  # 16 latents of 8 pixels
    assert (resolved.num_inference_steps, resolved.guidance_scale) == (50, 7.5)
    assert resolved.seed in range(2**32)
    assert resolved.seed != pipe.resolve(Request(CIRCLE)).seed


def test_the_bundle_may_recommend(folder: Path, networks: Networks) -> None:
    pipe = pipeline_of(folder, networks, guidance_scale=0.0, num_inference_steps=7)
    resolved = pipe.resolve(Request(CIRCLE))
    assert (resolved.num_inference_steps, resolved.guidance_scale) == (7, 0.0)
    given = pipe.resolve(Request(CIRCLE, num_inference_steps=3, guidance_scale=2))
    assert (given.num_inference_steps, given.guidance_scale) == (3, 2)


def test_zero_is_given(folder: Path, networks: Networks) -> None:
    pipe = pipeline_of(folder, networks, guidance_scale=5.0)
    resolved = pipe.resolve(Request(CIRCLE, seed=0, guidance_scale=0))
    assert (resolved.seed, resolved.guidance_scale) == (0, 0)


def test_timesteps_are_counted(pipe: Pipeline, networks: Networks) -> None:
    timesteps = [999, 600, 20]
    result = pipe(CIRCLE, scheduler="euler", timesteps=timesteps, seed=0)
    assert [feeds["timestep"][0] for feeds in networks.feeds["unet"]] == timesteps
    assert result.request.num_inference_steps == 3


def test_a_drawn_seed_makes_the_image_again(pipe: Pipeline) -> None:
    result = pipe(CIRCLE, num_inference_steps=2)
    again = pipe(CIRCLE, num_inference_steps=2, seed=result.seeds[0])
    np.testing.assert_array_equal(pixels(result.images), pixels(again.images))
    assert result.request.seed == result.seeds[0]


# --- refusals ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 100}, "width: got 100, expected a multiple of 8, such as 96 or 104"),
        ({"height": 9}, "height: got 9, expected a multiple of 8, such as 8 or 16"),
        ({"clip_skip": 3}, "clip_skip: got 3, but this text encoder has only 2 layers"),
        ({"scheduler": "eulr"}, "did you mean 'euler'"),
        ({"scheduler": "euler", "eta": 0.5}, "EulerDiscreteScheduler takes no eta"),
        ({"scheduler": "pndm", "timesteps": [5, 1]}, "PNDMScheduler takes no timesteps"),
        ({"cfg_scale": 3}, "unknown parameter 'cfg_scale'"),
    ],
)
def test_impossible_requests_are_refused_before_a_step(
    pipe: Pipeline, networks: Networks, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SdrtError) as caught:
        pipe(CIRCLE, **options)
    assert message in str(caught.value)
    assert networks.num_runs["unet"] == 0


def test_clip_skip_needs_hidden_states(folder: Path) -> None:
    last_alone = Signature(TEXT_ENCODER.inputs, TEXT_ENCODER.outputs[:1])
    networks = Networks(
        text_encoder=(last_alone, lambda feeds: {STATES[0]: encode(feeds)[STATES[0]]})
    )
    with pytest.raises(RequestError, match="no hidden states among its outputs"):
        pipeline_of(folder, networks)(CIRCLE, clip_skip=1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("component", NETWORKS)
def test_a_broken_number_aborts_and_names_the_component(
    folder: Path, component: str, value: float
) -> None:
    signature, function = NETWORKS[component]

    def broken(feeds: dict[str, Array]) -> dict[str, Array]:
        outputs = {name: array.copy() for name, array in function(feeds).items()}
        outputs[OUTPUT[component]].flat[5] = value
        return outputs

    pipe = pipeline_of(folder, Networks(**{component: (signature, broken)}))
    with pytest.raises(NonFiniteError) as caught:
        pipe(CIRCLE, num_inference_steps=2, seed=0)
    assert str(caught.value).startswith(f"{component}: 1 of ")
    assert "NaN or infinite" in str(caught.value)


def test_a_number_that_breaks_on_the_way_aborts_there(folder: Path) -> None:
    def broken_at_the_end(feeds: dict[str, Array]) -> dict[str, Array]:
        outputs = predict(feeds)
        return {name: array / (feeds["timestep"][0] > 300) for name, array in outputs.items()}

    stream = pipeline_of(folder, Networks(unet=(UNET, broken_at_the_end))).stream(
        CIRCLE, num_inference_steps=4, seed=0
    )
    with np.errstate(divide="ignore"), pytest.raises(NonFiniteError, match="unet"):
        for step in stream:
            last = step.timestep
    assert last == 501
