from __future__ import annotations

import pytest

from sdrt_engines.recent import Recent


class Kept:
    """A cache of two objects, with a log of those made and discarded."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.recent: Recent[str] = Recent(2, lambda item: self.log.append(f"discard {item}"))

    def get(self, key: str) -> str:
        return self.recent.get_or_make(key, lambda: self.made(key))

    def made(self, key: str) -> str:
        self.log.append(f"make {key}")
        return key


def test_a_thing_is_made_once() -> None:
    kept = Kept()
    assert [kept.get(key) for key in "abab"] == ["a", "b", "a", "b"]
    assert kept.log == ["make a", "make b"]


def test_what_was_not_asked_for_longest_goes_before_another_is_made() -> None:
    kept = Kept()
    for key in "abac":
        kept.get(key)
    assert kept.log == ["make a", "make b", "discard b", "make c"]
    assert [key in kept.recent for key in "abc"] == [True, False, True]


def test_what_cannot_be_made_is_not_kept() -> None:
    kept = Kept()
    with pytest.raises(ZeroDivisionError):
        kept.recent.get_or_make("a", lambda: str(1 // 0))
    assert "a" not in kept.recent
    assert kept.get("a") == "a"


def test_clearing_discards_all_from_the_oldest_on() -> None:
    kept = Kept()
    for key in "aba":
        kept.get(key)
    kept.recent.clear()
    kept.recent.clear()
    assert kept.log[2:] == ["discard b", "discard a"]
