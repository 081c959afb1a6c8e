from __future__ import annotations

import pytest

from sdrt_engines import EngineError
from sdrt_engines.threads import MAX_THREADS, require_num_threads


@pytest.mark.parametrize("num_threads", [None, 1, MAX_THREADS])
def test_a_number_of_threads(num_threads: int | None) -> None:
    require_num_threads(num_threads)


@pytest.mark.parametrize("num_threads", [0, -1, MAX_THREADS + 1, 10**30, True, False, 2.0, "4"])
def test_no_number_of_threads(num_threads: object) -> None:
    with pytest.raises(EngineError) as caught:
        require_num_threads(num_threads)
    assert str(caught.value) == (
        f"num_threads: got {num_threads!r}, expected a whole number from 1 to 1024: leave it out "
        "to use every physical core"
    )
