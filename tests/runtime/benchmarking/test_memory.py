from __future__ import annotations

import numpy as np
import pytest

from sdrt.benchmarking.memory import peak_memory


def test_the_peak_stays_when_memory_is_given_back() -> None:
    before = peak_memory()
    if before is None:
        pytest.skip("this system does not say")
    large = np.ones(before + 50_000_000, np.uint8)
    size = large.nbytes
    del large
    peak = peak_memory()
    assert peak is not None
    assert peak >= size
