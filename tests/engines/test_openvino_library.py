"""The first use of OpenVINO by several threads."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest

from sdrt_engines import openvino_library


def test_one_thread_at_a_time_makes_the_tables_of_types(monkeypatch: pytest.MonkeyPatch) -> None:
    active: list[str] = []
    found: list[int] = []

    def make() -> None:
        active.append("a thread")
        found.append(len(active))
        time.sleep(0.01)
        active.pop()

    library = Mock()
    library.Type.f32.to_dtype = make
    monkeypatch.setattr(openvino_library, "openvino", lambda: library)
    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(openvino_library.make_type_tables) for _ in range(4)]:
            each.result()
    assert found == [1, 1, 1, 1]
    assert library.Type.call_count == 4
