"""Images, masks and ControlNets through networks that are Python functions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdrt import Bundle, Control, Pipeline, Request, SdrtError
from sdrt.errors import NonFiniteError
from sdrt_engines import Array, Signature, resolve_target
from support.function_networks import (
    CIRCLE,
    CONTROLLED_UNET,
    INPAINTING_UNET,
    RESIDUALS,
    STAR,
    UNET,
    VAE_ENCODER,
    Function,
    Networks,
    control,
    controlnet,
    encode_image,
    predict,
    predict_controlled,
)
from support.images import mask, sample_image
from support.toy_bundle import write_toy_bundle

IMAGE, EDGES = sample_image(64, 48), sample_image(64, 48, seed=1)
MASK = mask(64, 48, (16, 8, 40, 32))
SHORT: dict[str, Any] = {"num_inference_steps": 4, "seed": 0}
NETS = {"edges": 3, "depth": 1, "normals": 5}  # their channels


def all_networks(**others: Any) -> Networks:
    return Networks(
        **{
            "vae_encoder": (VAE_ENCODER, encode_image),
            "unet_controlled": (CONTROLLED_UNET, predict_controlled),
            **{f"controlnet_{name}": (controlnet(count), control) for name, count in NETS.items()},
        }
        | others
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose own networks cannot be opened, so that any use of one is noticed."""
    root = write_toy_bundle(tmp_path_factory.mktemp("bundle") / "bundle")
    for path in root.glob("*/*.onnx"):
        path.unlink()
    return root


def open_bundle(folder: Path) -> Bundle:
    """The bundle, with ControlNets of 1 and 5 channels next to that of 3."""
    bundle = Bundle.open(folder)
    edges = bundle.component("controlnet_edges")
    others = tuple(
        replace(edges, name=f"controlnet_{name}", signature=controlnet(NETS[name]))
        for name in ("depth", "normals")
    )
    components = (*bundle.manifest.components, *others)
    return Bundle(bundle.root, replace(bundle.manifest, components=components))


def pipeline_of(folder: Path, networks: Networks) -> Pipeline:
    return Pipeline(open_bundle(folder), resolve_target("cpu"), networks.engines)


@pytest.fixture
def networks() -> Networks:
    return all_networks()


@pytest.fixture
def pipe(folder: Path, networks: Networks) -> Pipeline:
    return pipeline_of(folder, networks)


@pytest.fixture(scope="module")
def inpainting_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("bundle") / "bundle", unet_channels=9)


def predict_first(feeds: dict[str, Array]) -> dict[str, Array]:
    """An inpainting UNet that keeps the unmasked part."""
    return predict({**feeds, "sample": feeds["sample"][:, :4]})


# --- text to image costs nothing more


def test_without_control_nothing_of_it_is_opened_or_fed(folder: Path) -> None:
    networks = Networks()  # any other would open the bundle's own, and fail
    pipeline_of(folder, networks)(CIRCLE, **SHORT)
    assert networks.num_runs == {"text_encoder": 1, "unet": 4, "vae_decoder": 1}
    for feeds in networks.feeds["unet"]:
        assert feeds.keys() == {"sample", "timestep", "encoder_hidden_states"}


def test_with_control_the_plain_unet_is_not_opened(folder: Path, networks: Networks) -> None:
    del networks.engines["unet"], networks.engines["vae_encoder"]
    pipeline_of(folder, networks)(CIRCLE, control={"edges": EDGES}, **SHORT)
    assert networks.num_runs["unet_controlled"] == 4


# --- image to image


def test_the_image_is_encoded_once_in_minus_1_to_1(pipe: Pipeline, networks: Networks) -> None:
    result = pipe([CIRCLE, STAR], image=IMAGE, strength=0.5, **SHORT)
    (feeds,) = networks.feeds["vae_encoder"]
    expected = np.asarray(IMAGE, np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
    np.testing.assert_allclose(feeds["sample"], expected, atol=1e-6)
    assert networks.num_runs["unet"] == 2
    assert {image.size for image in result.images} == {IMAGE.size}
    assert result.timings.seconds["vae_encoder"] > 0


def test_steps_are_counted_from_where_the_image_begins(pipe: Pipeline) -> None:
    steps = list(pipe.stream(CIRCLE, image=IMAGE, strength=0.75, **SHORT))
    assert [(step.index, step.total) for step in steps] == [(0, 3), (1, 3), (2, 3)]
    assert [step.timestep for step in steps] == [501, 251, 1]
    assert all(len(step.preview()) == 1 for step in steps)


def test_a_small_strength_stays_near_the_image(pipe: Pipeline) -> None:
    near, far = (
        pipe(CIRCLE, image=IMAGE, strength=strength, num_inference_steps=20, seed=0).latents
        for strength in (0.05, 1)
    )
    latents = encode_image(
        {"sample": np.asarray(IMAGE, np.float32).transpose(2, 0, 1)[None] / 127.5 - 1}
    )["latent_parameters"][:, :4]
    scaled = latents * 0.13
    assert abs(near - scaled).mean() < abs(far - scaled).mean() / 2


@pytest.mark.parametrize(
    "keywords",
    [
        {"image": IMAGE, "strength": 0.6},
        {"image": IMAGE, "mask_image": MASK, "strength": 0.6},
        {"image": IMAGE, "mask_image": MASK},
        {"control": {"edges": Control(EDGES, 0.7)}},
        {"image": IMAGE, "control": {"edges": EDGES, "depth": EDGES}, "guess_mode": True},
    ],
)
def test_an_image_of_a_batch_can_be_made_again_alone(
    keywords: dict[str, Any], pipe: Pipeline
) -> None:
    keywords = keywords | {"num_inference_steps": 4, "scheduler": "euler_a"}
    batch = pipe([CIRCLE, STAR], num_images_per_prompt=2, seed=40, **keywords)
    for i, seed in enumerate(batch.seeds):
        alone = pipe((CIRCLE, STAR)[i // 2], seed=seed, **keywords)
        np.testing.assert_allclose(batch.latents[i], alone.latents[0], rtol=0, atol=1e-6)
    assert len({image.tobytes() for image in batch.images}) == 4


# --- inpainting


def test_latents_outside_the_mask_become_the_image_s(pipe: Pipeline) -> None:
    one, other = (
        pipe(prompt, image=IMAGE, mask_image=MASK, **SHORT).latents for prompt in (CIRCLE, STAR)
    )
    painted = np.asarray(MASK)[::8, ::8] > 0  # (h, w)
    assert (one == other).all(axis=(0, 1))[~painted].all()
    assert (one != other).any(axis=(0, 1))[painted].all()


def test_a_black_mask_gives_the_image_again(pipe: Pipeline) -> None:
    black = Image.new("L", IMAGE.size)
    drawn = [
        pipe(prompt, image=IMAGE, mask_image=black, **SHORT).latents for prompt in (CIRCLE, STAR)
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_a_white_mask_at_full_strength_leaves_nothing_of_the_image(
    pipe: Pipeline, networks: Networks
) -> None:
    white = Image.new("L", IMAGE.size, 255)
    one, other = (
        pipe(CIRCLE, image=image, mask_image=white, **SHORT).latents for image in (IMAGE, EDGES)
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("strength", "encodings"), [(1.0, 1), (0.5, 2)])
def test_an_inpainting_unet_is_shown_mask_and_masked_image(
    strength: float, encodings: int, inpainting_folder: Path
) -> None:
    networks = all_networks(unet=(INPAINTING_UNET, predict_first))
    pipe = pipeline_of(inpainting_folder, networks)
    pipe(CIRCLE, image=IMAGE, mask_image=MASK, strength=strength, **SHORT)
    encoded = networks.feeds["vae_encoder"]
    assert len(encoded) == encodings
    masked = encoded[-1]["sample"][0].transpose(1, 2, 0)
    painted = np.asarray(MASK) > 0
    assert (masked[painted] == 0).all()
    np.testing.assert_allclose(masked[~painted], np.asarray(IMAGE)[~painted] / 127.5 - 1, atol=1e-6)
    for feeds in networks.feeds["unet"]:
        assert feeds["sample"].shape == (2, 9, 6, 8)
        np.testing.assert_array_equal(feeds["sample"][:, 4], painted[None, ::8, ::8].repeat(2, 0))


def test_an_inpainting_unet_with_control(inpainting_folder: Path) -> None:
    both = Signature((*INPAINTING_UNET.inputs, *RESIDUALS), UNET.outputs)
    networks = all_networks(unet_controlled=(both, predict_first))
    pipe = pipeline_of(inpainting_folder, networks)
    pipe(CIRCLE, image=IMAGE, mask_image=MASK, control={"edges": EDGES}, **SHORT)
    assert networks.feeds["controlnet_edges"][0]["sample"].shape == (2, 4, 6, 8)


def test_around_a_mask_it_is_generated_larger_and_pasted_back(
    pipe: Pipeline, networks: Networks
) -> None:
    result = pipe(CIRCLE, image=IMAGE, mask_image=MASK, padding_mask_crop=4, **SHORT)
    assert networks.feeds["vae_encoder"][0]["sample"].shape == (1, 3, 128, 128)
    drawn, before, white = (np.asarray(each) for each in (result.images[0], IMAGE, MASK))
    assert drawn.shape == before.shape
    np.testing.assert_array_equal(drawn[white == 0], before[white == 0])
    assert (drawn[white > 0] != before[white > 0]).any()


# --- ControlNets


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("edges", EDGES),
        ("depth", EDGES),
        ("depth", np.full((48, 64, 1), 0.5)),
        ("normals", np.full((48, 64, 5), 0.5)),
    ],
)
def test_nets_of_any_channel_count(
    name: str, image: Any, pipe: Pipeline, networks: Networks
) -> None:
    result = pipe(CIRCLE, control={name: image}, **SHORT)
    assert result.images[0].size == (64, 48)
    feeds = networks.feeds[f"controlnet_{name}"]
    assert len(feeds) == 4
    assert feeds[0]["controlnet_cond"].shape == (2, NETS[name], 48, 64)


def test_control_at_scale_zero_changes_nothing(pipe: Pipeline, networks: Networks) -> None:
    plain = pipe(CIRCLE, width=64, height=48, **SHORT)
    silent = pipe(CIRCLE, control={"edges": Control(EDGES, 0)}, **SHORT)
    loud = pipe(CIRCLE, control={"edges": EDGES}, **SHORT)
    np.testing.assert_array_equal(plain.latents, silent.latents)
    assert abs(plain.latents - loud.latents).max() > 0.1
    assert networks.num_runs["controlnet_edges"] == 4
    assert loud.timings.seconds["controlnet"] > 0


def test_windows_are_shares_of_the_steps_that_are_taken(pipe: Pipeline, networks: Networks) -> None:
    half = {"edges": Control(EDGES, end=0.5)}
    pipe(CIRCLE, image=IMAGE, strength=0.5, control=half, num_inference_steps=8, seed=0)
    timesteps = [feeds["timestep"][0] for feeds in networks.feeds["controlnet_edges"]]
    assert timesteps == [376, 251]  # of 376, 251, 126, 1


@pytest.mark.parametrize("pools", [False, True])
def test_a_net_that_pools_globally_guesses(pools: bool, folder: Path, tmp_path: Path) -> None:
    root = write_toy_bundle(tmp_path / "bundle", pools_globally=pools)
    networks = all_networks()
    pipeline_of(root, networks)(CIRCLE, control={"edges": EDGES}, **SHORT)
    rows = {len(feeds["sample"]) for feeds in networks.feeds["controlnet_edges"]}
    assert rows == ({1} if pools else {2})


def test_threads_do_not_disturb_each_other(pipe: Pipeline) -> None:
    requests = [
        Request(prompt, num_inference_steps=4, seed=seed, **keywords)
        for seed, prompt in enumerate((CIRCLE, STAR))
        for keywords in (
            {"width": 64, "height": 48},
            {"image": IMAGE},
            {"image": IMAGE, "mask_image": MASK},
            {"image": IMAGE, "mask_image": MASK, "padding_mask_crop": 4},
            {"control": {"edges": Control(EDGES, end=0.5), "depth": EDGES}},
            {"control": {"edges": EDGES}, "image": IMAGE, "guess_mode": True},
        )
    ]
    one_after_another = [pipe(request).images[0].tobytes() for request in requests]
    with ThreadPoolExecutor(4) as pool:
        at_once = [result.images[0].tobytes() for result in pool.map(pipe, requests)]
    assert at_once == one_after_another


def test_what_the_caller_gave_is_left_alone(pipe: Pipeline) -> None:
    given = [IMAGE, MASK, EDGES]
    before = [image.tobytes() for image in given]
    array = np.full((48, 64, 5), 0.5, np.float32)
    nets = {"edges": Control(EDGES, 0.5), "normals": Control(array, 0.5)}
    pipe(CIRCLE, image=IMAGE, mask_image=MASK, control=nets, **SHORT)
    assert [image.tobytes() for image in given] == before
    assert (array == 0.5).all()


# --- refusals


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"control": {"egdes": EDGES}}, "control: no ControlNet 'egdes', did you mean 'edges'?"),
        ({"control": {"normals": EDGES}}, "this ControlNet takes 5 channels, not an image"),
        (
            {"control": {"normals": np.zeros((48, 64, 3))}},
            "control image: got an array (48, 64, 3), expected (48, 64, 5)",
        ),
        (
            {
                "image": IMAGE,
                "mask_image": MASK,
                "padding_mask_crop": 4,
                "control": {"normals": np.zeros((128, 128, 5))},
            },
            "and no padding_mask_crop",
        ),
        ({"image": IMAGE, "strength": 0}, "strength: got 0, which runs none of the 4 steps"),
        ({"image": IMAGE, "strength": 0.1}, "strength: got 0.1, which runs none of the 4 steps"),
        ({"image": IMAGE, "width": 128}, "set resize to crop, pad or stretch"),
    ],
)
def test_impossible_requests_are_refused_before_anything_runs(
    keywords: dict[str, Any], message: str, pipe: Pipeline, networks: Networks
) -> None:
    with pytest.raises(SdrtError) as caught:
        pipe.stream(CIRCLE, **SHORT | keywords)
    assert message in str(caught.value)
    assert not any(networks.num_runs.values())


@pytest.mark.parametrize("component", ["vae_encoder", "unet_controlled", "controlnet_edges"])
def test_a_broken_number_aborts_and_names_the_component(component: str, folder: Path) -> None:
    functions: dict[str, tuple[Signature, Function]] = {
        "vae_encoder": (VAE_ENCODER, encode_image),
        "unet_controlled": (CONTROLLED_UNET, predict_controlled),
        "controlnet_edges": (controlnet(3), control),
    }
    signature, function = functions[component]

    def broken(feeds: dict[str, Array]) -> dict[str, Array]:
        return {name: array * np.nan for name, array in function(feeds).items()}

    pipe = pipeline_of(folder, all_networks(**{component: (signature, broken)}))
    with pytest.raises(NonFiniteError, match=f"^{component}: "):
        pipe(CIRCLE, image=IMAGE, control={"edges": EDGES}, **SHORT)
