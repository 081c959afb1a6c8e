from __future__ import annotations

import pytest

from sdrt_engines.errors import is_out_of_memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("bad allocation"), True),
        (RuntimeError("Failed to allocate memory for requested buffer of size 5368709120"), True),
        (RuntimeError("CUDA failure 2: out of memory"), True),
        (RuntimeError("ensure the pre-allocated shapes match the expected output shapes"), False),
        (ValueError("no such operator"), False),
    ],
)
def test_every_library_s_way_to_say_it(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
