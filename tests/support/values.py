"""Values of every kind, for every place where a caller or a file can put one (hypothesis).

Each strategy gives values that are nearly valid, so that images come out too, and values of another
kind, size or type.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from hypothesis import strategies as st

from sdrt.control import Control
from sdrt.kinds import Between, Flag, Kind, Numbers, OneOf, Scheduler, Texts
from sdrt.parameters import PARAMETER
from sdrt.scheduler_names import SHORT_NAMES
from support.images import mask, sample_image

Values: TypeAlias = "st.SearchStrategy[Any]"

# Small enough for thousands of images.
SIDE = 16
CHEAP = {"width": SIDE, "height": SIDE, "num_inference_steps": 2, "seed": 3}
IMAGE, MASK = sample_image(SIDE, SIDE), mask(SIDE, SIDE, (4, 4, 12, 12))
# What a field needs to have an effect.
REST: dict[str, dict[str, Any]] = {
    "timesteps": {"scheduler": "euler"},
    "sigmas": {"scheduler": "euler"},
    "mask_image": {"image": IMAGE},
    "strength": {"image": IMAGE},
    "padding_mask_crop": {"image": IMAGE, "mask_image": MASK},
    "resize": {"image": IMAGE},
    "guess_mode": {"control": {"edges": IMAGE}},
    "vae_tile_size": {"vae_tiling": True},
}


class Hostile:
    """An object that fails wherever it is asked for anything."""

    def __repr__(self) -> str:
        raise OSError("no repr")

    def __bool__(self) -> bool:
        raise OSError("no truth")

    def __eq__(self, other: object) -> bool:
        raise OSError("no equality")

    def __len__(self) -> int:
        raise OSError("no length")

    __hash__ = None  # type: ignore[assignment]


NUMBERS = (0, 1, -1, 2, 0.0, -0.0, 0.5, 1.0, 2.0, -1.5, 1e-320, 1e308, 10**30, 2**64, -(2**63))
NOT_NUMBERS = (math.nan, math.inf, -math.inf, 1j, Fraction(1, 2), Decimal("0.5"), 10**5000)
TEXTS = ("", "a", "1", "nan", "x" * 300, "x" * 10_001, "\0", "a\nb", "\ud800", "é\u202e", "None")
_ODD = (None, True, False, b"", b"99", bytearray(b"a"), memoryview(b"ab"), range(3), range(10**30))
_NUMPY = (
    *(
        np.int64(1),
        np.uint8(2),
        np.float16(0.5),
        np.float32(0.5),
        np.float64("nan"),
        np.bool_(True),
    ),
    *(np.str_("a"), np.datetime64("2026-01-01"), np.complex64(1), np.array(1), np.array([2, 1])),
    *(np.zeros((2, 2)), np.array(["crop", "pad"]), np.array([None]), np.zeros(0), np.float32),
)


def scalars() -> Values:
    """One value of any type; those that can be used up are new each time."""
    plain = (*NUMBERS, *NOT_NUMBERS, *TEXTS, *_ODD, *_NUMPY, object, Control, IMAGE, Hostile())
    return st.one_of(
        st.sampled_from(plain),
        st.builds(object),
        st.builds(lambda: iter([9, 1])),
        st.floats(),
        st.integers(),
        st.text(max_size=20),
    )


def anything() -> Values:
    """Scalars, and lists and dicts of them."""
    items = scalars()
    return st.one_of(
        items,
        st.lists(items, max_size=3),
        st.lists(items, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=5), items, max_size=2),
        st.sampled_from(([1] * 1001, ["a"] * 1025, {1, 2}, [[1]], [[[[]]]])),
    )


def fitting(kind: Kind) -> Values:
    """Values of the kind, both ends included, that keep an image cheap."""
    match kind:
        case Between(low=low, high=high, whole=True):
            return st.sampled_from((int(low), int(low) + 1, SIDE, 24, high))
        case Between(low=low, high=high):
            return st.floats(low, high)
        case Numbers(each=each):
            falling = st.lists(fitting(each), max_size=4).map(lambda x: sorted(x, reverse=True))
            usual = st.sampled_from(([9, 3], [999, 500.5, 1], [14.6, 1, 0], [1, 2], [5, 5], [0]))
            return falling | usual
        case Texts():
            return st.text(max_size=20) | st.lists(st.text(max_size=9), max_size=2)
        case Scheduler():
            return st.sampled_from((*SHORT_NAMES, "DDIMScheduler", "Euler a", "eluer"))
        case Flag():
            return st.booleans()
        case OneOf(words=words):
            return st.sampled_from(words)
        case _:
            return st.sampled_from((IMAGE, MASK, {"edges": IMAGE}, {"egdes": IMAGE}))


def either(fits: Values) -> Values:
    """These values and any others, in equal parts."""
    return st.booleans().flatmap(lambda fit: fits if fit else anything())


def values_of(field: str) -> Values:
    """Values for one field of a `Request`."""
    return either(fitting(PARAMETER[field].kind))


def requests() -> Values:
    """The fields of a `Request`, several of them out of the ordinary."""
    names = sorted(PARAMETER.keys() - {"prompt"})
    chosen = st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True)
    given = chosen.flatmap(
        lambda names: st.fixed_dictionaries({name: values_of(name) for name in names})
    )
    return st.builds(lambda prompt, rest: {"prompt": prompt, **CHEAP, **rest}, prompts(), given)


def prompts() -> Values:
    return st.just("a red circle") | values_of("prompt")


def controls() -> Values:
    """The fields of a `Control`."""
    share = either(fitting(Between(0, 1)))
    image = st.sampled_from((IMAGE, np.zeros((SIDE, SIDE, 3)), np.full((SIDE, SIDE, 3), np.nan)))
    rest = {
        "scale": either(fitting(Between(-10, 10))),
        "start": share,
        "end": share,
        "annotate": either(st.sampled_from((None, "canny", "cany"))),
    }
    return st.fixed_dictionaries({"image": either(image)}, optional=rest)


def json_values() -> Values:
    """Values that JSON can hold."""
    return st.recursive(
        st.none()
        | st.booleans()
        | st.sampled_from((*NUMBERS, 10**400, math.nan, math.inf, *TEXTS))
        | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
        ),
        max_leaves=5,
    )


def json_documents() -> Values:
    """The text of a PNG that `--from-image` reads: a request's fields, some of them replaced."""
    names = (*PARAMETER, "bundle", "model", "version", "nonsense")
    changes = st.dictionaries(st.sampled_from(names), json_values(), min_size=1, max_size=3)
    whole = changes.map(lambda changes: json.dumps({"prompt": "a", **CHEAP, **changes}))
    broken = st.sampled_from(("", "{", "[]", "null", "[" * 5000, '{"seed": 1' + "0" * 5000 + "}"))
    return whole | json_values().map(json.dumps) | broken


def words() -> Values:
    """One argument of a command line: nothing that a shell could not pass on."""
    numbers = (str(number) for number in (*NUMBERS, 10**30))
    texts = (text for text in TEXTS if "\0" not in text and len(text) < 10_000)
    other = (
        "1" * 5000,
        "nan",
        "1e400",
        "1_0",
        "0x10",
        "edges=",
        "edges=1",
        "edges=0:1",
        "=",
        "cpu",
    )
    return st.sampled_from((*numbers, *texts, *other))


def command_lines() -> Values:
    """Options of `sdrt run` with values, to be added to a command line that works."""
    named = [option for parameter in PARAMETER.values() for option in parameter.options]
    plain = [f"--{name.replace('_', '-')}" for name in PARAMETER if name != "prompt"]
    other = ["--control-scale", "--control-window", "--annotate", "--target", "--num-threads", "-x"]
    pair = st.tuples(st.sampled_from([*named, *plain, *other]), words())
    return st.lists(st.one_of(pair, words().map(lambda word: (word,))), min_size=1, max_size=3).map(
        lambda pairs: [word for pair in pairs for word in pair]
    )
