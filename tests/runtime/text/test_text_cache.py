"""The states of recent prompts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sdrt.text.text_cache import TextCache

ROW = np.arange(25, dtype=np.float32)  # 100 bytes


def test_what_was_put_is_got_unchanged() -> None:
    cache, row = TextCache(), ROW.copy()
    cache.put("a", row)
    row[:] = 0
    got = cache.get("a")
    assert got is not None
    np.testing.assert_array_equal(got, ROW)
    assert not got.flags.writeable
    assert cache.get("b") is None


def test_the_least_recently_used_goes_first() -> None:
    cache = TextCache(max_bytes=300)
    for key in "abc":
        cache.put(key, ROW)
    cache.get("a")
    cache.put("d", ROW)
    assert [key for key in "abcd" if cache.get(key) is not None] == ["a", "c", "d"]
    assert cache.size == 300


def test_only_copies_count_and_are_kept() -> None:
    cache = TextCache(max_bytes=250)
    rows = np.zeros((1000, 25), np.float32)
    cache.put("a", rows[3])
    got = cache.get("a")
    assert got is not None and got.base is None
    assert cache.size == 100
    cache.put("a", rows[4])
    assert cache.size == 100
    cache.put("large", rows)
    assert cache.get("large") is None and cache.get("a") is not None


def test_nothing_is_kept_without_room() -> None:
    cache = TextCache(max_bytes=0)
    cache.put("a", ROW)
    assert cache.get("a") is None and cache.size == 0


def test_threads_may_share_it() -> None:
    cache = TextCache(max_bytes=1000)

    def use(number: int) -> None:
        cache.put(number % 37, np.full(25, number % 37, np.float32))
        got = cache.get(number % 37)
        assert got is None or (got == number % 37).all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(4000)))
    assert cache.size <= 1000
