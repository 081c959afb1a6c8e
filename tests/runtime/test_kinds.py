"""Numbers in a range, whatever else Python counts as one."""

from __future__ import annotations

import math

import pytest

from sdrt.errors import RequestError
from sdrt.kinds import Between


@pytest.mark.parametrize("value", [0, 0.0, 1, 0.5])
def test_both_ends_are_included(value: float) -> None:
    assert value in Between(0, 1)


@pytest.mark.parametrize("value", [-1, 1.1, math.nan, math.inf, 10**400, True, "1", None, [1]])
def test_other_values_are_refused_by_name(value: object) -> None:
    with pytest.raises(RequestError, match=r"^eta: got .*, expected a number from 0 to 1$"):
        Between(0, 1).checked("eta", value)


@pytest.mark.parametrize("value", [1.0, False, 0, 2**64])
def test_whole_numbers(value: object) -> None:
    seeds = Between(1, 2**64 - 1, whole=True)
    assert 2**64 - 1 in seeds
    message = f"^seed: got {value}, expected a whole number from 1 to 18446744073709551615$"
    with pytest.raises(RequestError, match=message):
        seeds.checked("seed", value)
