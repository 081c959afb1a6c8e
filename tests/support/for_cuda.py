"""Marks tests of what `sdrt[cuda]` calls in ONNX Runtime, with the CPU as its device."""

from __future__ import annotations

import onnxruntime
import pytest

OLDEST = (1, 31)  # of the extra; the core opens older ones, which cannot copy a pinned value

_VERSION = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
FOR_CUDA = pytest.mark.skipif(_VERSION < OLDEST, reason="sdrt[cuda] needs onnxruntime 1.31")
