"""JSON of strangers: one clear error for whatever it holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sdrt.errors import BundleError
from sdrt.files.json_fields import JsonFields

DEEP: Any = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": NaN}', "not valid JSON (NaN is not JSON)"),
        ('{"a": Infinity}', "not valid JSON (Infinity is not JSON)"),
        ('{"a": ' + "[" * 100_000, "not valid JSON ("),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON (Exceeds the limit"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "not valid JSON (the key 'c' is there twice)"),
        ('{"a": 1, "a": 1}', "not valid JSON (the key 'a' is there twice)"),
        (b"\x80", "not valid JSON ("),
        ("3", "got 3, expected an object"),
        (
            "[" + "1," * 100_000 + "1]",
            "got [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, ..., expected an obj",
        ),
    ],
    ids=[
        *("nan", "infinity", "deep", "digits", "twice inside", "twice", "bytes", "number", "long")
    ],
)
def test_absurd_texts(text: str | bytes, message: str) -> None:
    with pytest.raises(BundleError) as caught:
        JsonFields.parse(text)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (10**400, "a: got 1000000000000000000000000000000000000..., expected a number"),
        (DEEP, "a: got [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[..., expected a number"),
        ({"b": DEEP}, 'a: got {"b": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[..., expected a number'),
        ("x" * 10**6, f'a: got "{"x" * 36}..., expected a number'),
        (True, "a: got true, expected a number"),
    ],
    ids=["digits", "deep", "deep inside", "long", "boolean"],
)
def test_absurd_values(value: Any, message: str) -> None:
    with pytest.raises(BundleError) as caught:
        JsonFields({"a": value}).number("a")
    assert str(caught.value) == message


def test_an_infinity_where_it_is_allowed() -> None:
    fields = JsonFields.parse(json.dumps({"a": float("-inf")}), infinities=True)
    assert fields.values == {"a": float("-inf")}
