"""Records to JSON and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest

from sdrt.errors import BundleError
from sdrt.files.records import MaybeInfinite, json_from_record, record_from_json
from sdrt_engines import Signature
from support.onnx_writer import spec

EMPTY = Signature((), ())


@dataclass(frozen=True)
class Leaf:
    size: int
    kind: Literal["round", "square"] = "round"

    def __post_init__(self) -> None:
        if self.size < 0:
            raise BundleError(f"size: got {self.size}, expected at least 0")


@dataclass(frozen=True)
class Tree:
    name: str
    height: MaybeInfinite
    width: float = 1.5
    leaves: tuple[Leaf, ...] = ()
    rings: tuple[tuple[int, ...], ...] = ()
    parent: str | None = None
    evergreen: bool = False
    tags: frozenset[str] = frozenset()
    notes: Mapping[str, Any] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)
    signature: Signature = EMPTY


TREE = Tree(
    "oak",
    math.inf,
    leaves=(Leaf(3), Leaf(4, "square")),
    rings=((1, 2), ()),
    parent="acorn",
    evergreen=True,
    tags=frozenset({"old", "big"}),
    notes={"a": [1, None]},
    colours={"bark": "grey"},
    signature=Signature((spec("x", "float16", "B", 4),), (spec("y", "int64"),)),
)


def test_what_is_written_is_read() -> None:
    assert record_from_json(Tree, json_from_record(TREE)) == TREE


def test_defaults_are_left_out_and_may_be_absent() -> None:
    written = json_from_record(Tree("elm", 2.5))
    assert written == {"name": "elm", "height": 2.5}
    assert record_from_json(Tree, written) == Tree("elm", 2.5)


def test_json_holds_plain_values() -> None:
    written = json_from_record(TREE)
    assert written["height"] is None  # infinite
    assert written["tags"] == ["big", "old"]
    assert written["leaves"] == [{"size": 3}, {"size": 4, "kind": "square"}]
    assert written["signature"]["inputs"] == [{"name": "x", "dtype": "float16", "shape": ["B", 4]}]
    assert record_from_json(Tree, written).signature.inputs[0].dtype == np.float16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ...}, "name: missing"),
        ({"name": ""}, 'name: got "", expected a string'),
        ({"name": 3}, "name: got 3, expected a string"),
        ({"height": "tall"}, 'height: got "tall", expected a number'),
        ({"height": True}, "height: got true, expected a number"),
        ({"width": None}, "width: got null, expected a number"),
        ({"width": 10**400}, "expected a number"),
        ({"leafs": []}, "leafs: unknown field, did you mean 'leaves'?"),
        ({"leaves": {}}, "leaves: got {}, expected an array"),
        ({"leaves": [3]}, "leaves[0]: got 3, expected an object"),
        ({"leaves": [{"size": 1.5}]}, "leaves[0].size: got 1.5, expected an integer"),
        ({"leaves": [{"size": True}]}, "leaves[0].size: got true, expected an integer"),
        ({"leaves": [{"size": 1}, {"size": -1}]}, "leaves[1]: size: got -1, expected at least 0"),
        ({"leaves": [{"size": 1, "kind": "rond"}]}, "leaves[0].kind: got 'rond', did you mean 'r"),
        ({"leaves": [{"size": 1, "kind": []}]}, "leaves[0].kind: got [], expected a string"),
        ({"leaves": [{"size": 1, "colour": 2}]}, "leaves[0].colour: unknown field"),
        ({"rings": [[1], [1, "2"]]}, 'rings[1][1]: got "2", expected an integer'),
        ({"parent": 1}, "parent: got 1, expected a string"),
        ({"evergreen": 1}, "evergreen: got 1, expected true or false"),
        ({"tags": ["a", 1]}, "tags[1]: got 1, expected a string"),
        ({"notes": []}, "notes: got [], expected an object"),
        ({"colours": {"bark": None}}, "colours.bark: got null, expected a string"),
        (
            {"signature": {"inputs": [{"name": "x", "dtype": "float23", "shape": []}]}},
            "signature.inputs[0].dtype: got 'float23', did you mean 'float32'?",
        ),
        (
            {"signature": {"inputs": [{"name": "x", "dtype": "int8", "shape": [1.5]}]}},
            "signature.inputs[0].shape[0]: got 1.5, expected an integer",
        ),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], message: str) -> None:
    values = json_from_record(TREE) | change
    with pytest.raises(BundleError) as caught:
        record_from_json(Tree, {name: value for name, value in values.items() if value is not ...})
    assert message in str(caught.value)
