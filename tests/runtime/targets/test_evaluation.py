"""Asks on engines: ControlNets' residuals, summed and assigned to rows; NaN, named."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping

import numpy as np
import pytest

from sdrt.ask import Answer, Ask, Constant, Joiner, Link, split
from sdrt.errors import NonFiniteError
from sdrt.targets.engines import Engines, residual_shapes
from sdrt.targets.evaluation import checked_answer, evaluate, require_finite_answer
from sdrt_engines import Array, FunctionEngine, Pinned
from support.function_networks import (
    CONTROLLED_UNET,
    UNET,
    Function,
    Networks,
    brightness,
    control,
    controlnet,
    engines_of,
    predict_controlled,
)

ROWS = 4
RANDOM = np.random.default_rng(0)
SAMPLE = RANDOM.standard_normal((ROWS, 4, 2, 4), np.float32)
TEXT = RANDOM.standard_normal((ROWS, 77, 3), np.float32)
ALL = tuple(range(ROWS))
NAMES = tuple(spec.name for spec in controlnet(3).outputs)


class Nets:
    """A controlled UNet and ControlNets, with their feeds."""

    def __init__(self, *functions: Function) -> None:
        others = {f"controlnet_{i}": (controlnet(3), each) for i, each in enumerate(functions)}
        self.networks = Networks(unet_controlled=(CONTROLLED_UNET, predict_controlled), **others)
        self.engines = engines_of(self.networks)

    def feeds(self, name: str) -> dict[str, Array]:
        """The feeds of the only run."""
        (feeds,) = self.networks.feeds[name]
        return feeds

    @property
    def residuals(self) -> dict[str, Array]:
        """The UNet's residuals in its last run."""
        return {name: self.networks.feeds["unet_controlled"][-1][name] for name in NAMES}


def changing(rows: tuple[int, ...]) -> Mapping[str, Array]:
    return {"sample": SAMPLE[list(rows)], "timestep": np.full(len(rows), 501, np.float32)}


def net(index: int, rows: tuple[int, ...] = ALL, scale: float = 1.0) -> Link:
    images = np.random.default_rng(10 + index).random((ROWS, 3, 16, 32), np.float32)
    constant = {
        "encoder_hidden_states": TEXT[list(rows)],
        "controlnet_cond": images[list(rows)],
        "conditioning_scale": np.full((len(rows), len(NAMES)), scale, np.float32),
    }
    return Link(f"controlnet_{index}", rows, changing(rows), Constant(constant))


def ask(*nets: Link) -> Ask:
    constant = Constant({"encoder_hidden_states": TEXT})
    return Ask((*nets, Link("unet_controlled", ALL, changing(ALL), constant)), ("out_sample",))


def given(nets: Nets, index: int) -> dict[str, Array]:
    """The output of a net, before the sum."""
    feeds = nets.feeds(f"controlnet_{index}")
    scale = feeds["conditioning_scale"][0, 0]
    return {name: scale * residual for name, residual in brightness(feeds).items()}


def test_the_denoiser_runs_on_its_feeds() -> None:
    networks = Networks()
    link = Link("unet", ALL, changing(ALL), Constant({"encoder_hidden_states": TEXT}))
    answer = evaluate(Ask((link,), ("out_sample",)), engines_of(networks))
    (feeds,) = networks.feeds["unet"]
    assert feeds.keys() == {"sample", "timestep", "encoder_hidden_states"}
    assert answer.outputs.keys() == {"out_sample"}
    assert answer.seconds.keys() == {"denoiser"}
    assert answer.ran_on == "cpu"


def test_nets_are_summed() -> None:
    nets = Nets(control, control, control)
    answer = evaluate(ask(net(0, scale=0.5), net(1, scale=-2), net(2, ())), nets.engines)
    assert nets.networks.num_runs["controlnet_2"] == 0
    first, second = given(nets, 0), given(nets, 1)
    for name in NAMES:
        np.testing.assert_allclose(nets.residuals[name], first[name] + second[name], rtol=1e-6)
        assert not nets.feeds("controlnet_0")[f"earlier.{name}"].any()
    assert answer.seconds.keys() == {"controlnet", "denoiser"}


def test_the_first_net_at_work_adds_to_zeros() -> None:
    nets = Nets(control, control)
    evaluate(ask(net(0, ()), net(1)), nets.engines)
    assert nets.networks.num_runs["controlnet_0"] == 0
    for name in NAMES:
        np.testing.assert_array_equal(nets.residuals[name], given(nets, 1)[name])


def test_if_no_net_is_at_work_there_are_zeros() -> None:
    nets = Nets(control)
    evaluate(ask(net(0, ())), nets.engines)
    assert nets.networks.num_runs["controlnet_0"] == 0
    assert not any(residual.any() for residual in nets.residuals.values())


def test_rows_without_a_net_have_zeros() -> None:
    nets = Nets(control, control)
    evaluate(ask(net(0, (2, 3)), net(1, (2, 3))), nets.engines)
    for name in NAMES:
        expected = given(nets, 0)[name] + given(nets, 1)[name]
        np.testing.assert_allclose(nets.residuals[name][2:], expected, rtol=1e-6)
        assert not nets.residuals[name][:2].any()


@pytest.mark.parametrize(
    ("first", "second"), [((0, 1), (1, 2)), ((3,), (0, 1, 2, 3)), ((0, 1, 2, 3), (2,))]
)
def test_nets_may_run_on_different_rows(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    nets = Nets(control, control)
    evaluate(ask(net(0, first), net(1, second)), nets.engines)
    for name in NAMES:
        expected = np.zeros_like(nets.residuals[name])
        for index, rows in enumerate((first, second)):
            expected[list(rows)] += given(nets, index)[name]
        np.testing.assert_allclose(nets.residuals[name], expected, rtol=1e-6)


def test_constant_feeds_are_uploaded_once_and_freed_with_their_owner() -> None:
    nets = Nets(control)
    asked = ask(net(0))
    pinned = nets.engines.pinned(asked.chain[0])
    assert nets.engines.pinned(asked.chain[0]) is pinned
    assert {type(feed) for feed in pinned.values()} == {Pinned}
    evaluate(asked, nets.engines)
    upload = weakref.ref(pinned["controlnet_cond"])
    del pinned, asked
    gc.collect()
    assert upload() is None


def test_zeros_are_uploaded_once() -> None:
    nets = Nets(control)
    unet = ask(net(0)).chain[-1]
    zeros = nets.engines.zero_residuals(unet)
    assert nets.engines.zero_residuals(unet) is zeros
    shapes = {name: feed.shape for name, feed in zeros.items()}
    assert shapes == dict(zip(NAMES, [(4, 4, 2, 4), (4, 4, 1, 2), (4, 4, 1, 2)], strict=True))


@pytest.mark.parametrize(("height", "half"), [(6, 3), (7, 4), (1, 1)])
def test_the_shapes_of_residuals_follow_from_the_sample(height: int, half: int) -> None:
    shapes = residual_shapes(CONTROLLED_UNET, (2, 4, height, 8))
    assert list(shapes.items()) == list(
        zip(NAMES, [(2, 4, height, 8), (2, 4, half, 4), (2, 4, half, 4)], strict=True)
    )


# --- NaN and infinity


def broken(feeds: dict[str, Array]) -> dict[str, Array]:
    return {name: residual * np.nan for name, residual in control(feeds).items()}


def checked(engines: Engines, *links: Link) -> Answer:
    return checked_answer(ask(*links), engines)


def test_nan_names_the_denoiser() -> None:
    nets = Nets(control)
    nets.networks.engines["unet_controlled"] = FunctionEngine(
        CONTROLLED_UNET, lambda feeds: {"out_sample": feeds["sample"] * np.nan}
    )
    with pytest.raises(NonFiniteError, match=r"^unet_controlled: 128 of 128 output values"):
        checked(engines_of(nets.networks), net(0))


def test_of_several_nets_the_one_at_fault_is_named() -> None:
    checked(Nets(control, control, control).engines, net(0), net(1), net(2))
    with pytest.raises(NonFiniteError, match=r"^controlnet_1: 128 of 128 output values"):
        checked(Nets(control, broken, control).engines, net(0), net(1), net(2))


def test_a_net_that_does_not_run_is_not_at_fault() -> None:
    checked(Nets(control, broken).engines, net(0), net(1, ()))


def test_of_joined_asks_only_those_with_nan_in_their_rows_fail() -> None:
    def nan_where_marked(feeds: dict[str, Array]) -> dict[str, Array]:
        marked = feeds["timestep"] == 666
        return {"out_sample": np.where(marked[:, None, None, None], np.nan, feeds["sample"])}

    engines = engines_of(Networks(unet=(UNET, nan_where_marked)))
    asks = [plain_ask(1, timestep) for timestep in (501, 666, 1)]
    answers = split(evaluate(Joiner()(asks), engines), asks)
    require_finite_answer(asks[0], answers[0], engines)
    require_finite_answer(asks[2], answers[2], engines)
    with pytest.raises(NonFiniteError, match=r"^unet: 32 of 32 output values are NaN"):
        require_finite_answer(asks[1], answers[1], engines)


def plain_ask(num_rows: int, timestep: float) -> Ask:
    rows = tuple(range(num_rows))
    feeds = {"sample": SAMPLE[:num_rows], "timestep": np.full(num_rows, timestep, np.float32)}
    constant = Constant({"encoder_hidden_states": TEXT[:num_rows]})
    return Ask((Link("unet", rows, feeds, constant),), ("out_sample",))
