"""Asks of several generations joined into one, and the answer split again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping

import numpy as np
import pytest

from sdrt.ask import Answer, Ask, Asks, Constant, Joiner, Link, answered, joint, part_of, split
from sdrt_engines import Array

OUTPUTS = ("out_sample",)


def ask(*values: float, timestep: Array | None = None, component: str = "unet") -> Ask:
    """An ask with a row for each of the values."""
    rows = np.array(values, np.float32)[:, None]
    t = np.zeros(len(rows)) if timestep is None else timestep
    changing: dict[str, Array] = {"sample": rows, "timestep": t}
    link = Link(component, tuple(range(len(rows))), changing, Constant({"context": rows + 100}))
    return Ask((link,), OUTPUTS)


def controlled(*values: float, rows: tuple[int, ...]) -> Ask:
    """An ask whose ControlNet runs on some of the rows."""
    plain = ask(*values, component="unet_controlled").chain[0]
    places = list(rows)
    net = Link(
        "controlnet_edges",
        rows,
        {"sample": plain.changing["sample"][places]},
        Constant({"conditioning_scale": np.array(values, np.float32)[places, None]}),
    )
    return Ask((net, plain), OUTPUTS)


def test_rows_follow_each_other() -> None:
    asks = [ask(1, 2), ask(3), ask(4, 5)]
    (link,) = Joiner()(asks).chain
    np.testing.assert_array_equal(link.changing["sample"][:, 0], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(link.constant.feeds["context"][:, 0], [101, 102, 103, 104, 105])
    assert link.rows == (0, 1, 2, 3, 4)
    assert Joiner()(asks).num_rows == 5


def test_each_gets_its_rows_and_its_share_of_the_time() -> None:
    asks = [ask(1, 2), ask(3), ask(4, 5)]
    together = Answer({"out_sample": np.arange(5)}, {"denoiser": 1.0}, "cpu")
    answers = split(together, asks)
    assert [each.outputs["out_sample"].tolist() for each in answers] == [[0, 1], [2], [3, 4]]
    assert [each.seconds["denoiser"] for each in answers] == pytest.approx([0.4, 0.2, 0.4])
    assert {each.ran_on for each in answers} == {"cpu"}


def test_controlnets_keep_their_rows() -> None:
    asks = [controlled(1, 2, rows=(1,)), controlled(3, 4, rows=()), controlled(5, 6, rows=(0, 1))]
    net, unet = Joiner()(asks).chain
    assert net.rows == (1, 4, 5)
    assert unet.rows == tuple(range(6))
    np.testing.assert_array_equal(net.changing["sample"][:, 0], [2, 5, 6])
    np.testing.assert_array_equal(net.constant.feeds["conditioning_scale"][:, 0], [2, 5, 6])


def test_one_ask_is_itself() -> None:
    alone = ask(1)
    assert Joiner()([alone]) is alone


def test_a_scalar_timestep_stays_one() -> None:
    scalar = np.array(5, np.int64)
    (link,) = Joiner()([ask(1, timestep=scalar), ask(2, timestep=scalar)]).chain
    assert link.changing["timestep"] == scalar


@pytest.mark.parametrize(
    ("one", "other", "may_join"),
    [
        (ask(1, 2), ask(3), True),
        (ask(1), ask(1, timestep=np.array([7.0])), True),
        (ask(1), ask(1, component="vae_decoder"), False),
        (ask(1, timestep=np.array(5)), ask(1, timestep=np.array(5)), True),
        (ask(1, timestep=np.array(5)), ask(1, timestep=np.array(6)), False),
        (controlled(1, 2, rows=(1,)), controlled(1, 2, rows=()), True),
        (controlled(1, 2, rows=(1,)), ask(1, 2, component="unet_controlled"), False),
    ],
)
def test_equal_keys_may_be_joined(one: Ask, other: Ask, may_join: bool) -> None:
    assert (one.key == other.key) == may_join


def test_other_shapes_and_outputs_do_not_join() -> None:
    wide = Ask((Link("unet", (0,), {"sample": np.zeros((1, 2))}),), OUTPUTS)
    narrow = Ask((Link("unet", (0,), {"sample": np.zeros((1, 1))}),), OUTPUTS)
    other = Ask(narrow.chain, ("pooled",))
    assert len({wide.key, narrow.key, other.key}) == 3


def test_answered_runs_each_ask() -> None:
    def twice() -> Asks[float]:
        first = yield ask(1)
        second = yield ask(2)
        return float(first.outputs["out_sample"][0] + second.outputs["out_sample"][0])

    def run(asked: Ask) -> Answer:
        outputs: Mapping[str, np.ndarray] = {"out_sample": asked.chain[0].changing["sample"][:, 0]}
        return Answer(outputs)

    assert answered(twice(), run) == 3


def test_answered_gives_what_asks_nothing() -> None:
    def nothing() -> Asks[str]:
        return "done"
        yield

    assert answered(nothing(), lambda ask: Answer({})) == "done"


def test_what_is_constant_is_joined_again_only_for_other_asks() -> None:
    joiner, constants = Joiner(), [Constant({"context": np.full((1, 1), i)}) for i in range(3)]

    def joined(*members: int) -> Constant:
        asks = [
            Ask((Link("unet", (0,), {"sample": np.zeros((1, 1))}, constants[i]),), OUTPUTS)
            for i in members
        ]
        return joiner(asks).chain[0].constant

    first = joined(0, 1)
    assert joined(0, 1) is first
    other = joined(0, 1, 2)
    assert other is not first
    assert joined(0, 1, 2) is other
    np.testing.assert_array_equal(joined(2, 0).feeds["context"][:, 0], [2, 0])


def test_a_joiner_keeps_no_finished_request_alive() -> None:
    joiner, constants = Joiner(), [Constant({"context": np.zeros((1, 1))}) for _ in range(2)]
    joiner([Ask((Link("unet", (0,), {}, each),), OUTPUTS) for each in constants])
    finished = weakref.ref(constants.pop())
    gc.collect()
    assert finished() is None


# --- parts


def test_a_part_is_the_ask_of_its_rows() -> None:
    whole = controlled(1, 2, 3, 4, rows=(1, 3))
    net, unet = part_of(whole, range(2, 4)).chain
    assert (net.rows, unet.rows) == ((1,), (0, 1))
    np.testing.assert_array_equal(net.changing["sample"][:, 0], [4])
    np.testing.assert_array_equal(net.constant.feeds["conditioning_scale"][:, 0], [4])
    np.testing.assert_array_equal(unet.changing["sample"][:, 0], [3, 4])
    np.testing.assert_array_equal(unet.constant.feeds["context"][:, 0], [103, 104])


def test_a_part_s_constant_feeds_are_the_same_object_each_time() -> None:
    whole = ask(1, 2, 3)
    parts = [part_of(whole, range(1, 3)).chain[0].constant for _ in range(2)]
    assert parts[0] is parts[1]


def test_a_scalar_timestep_stays() -> None:
    part = part_of(ask(1, 2, timestep=np.array(5.0)), range(1))
    assert part.chain[0].changing["timestep"] == 5.0


def test_the_answers_of_parts_are_joined() -> None:
    parts = [Answer({"out": np.array([i])}, {"denoiser": 0.5}, "cpu") for i in range(2)]
    answer = joint(parts)
    assert answer.outputs["out"].tolist() == [0, 1]
    assert (answer.seconds, answer.ran_on) == ({"denoiser": 1.0}, "cpu")
