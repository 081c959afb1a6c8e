"""A simulated GPU, which must be empty in the end."""

from collections.abc import Iterator

import pytest

from support.host_gpu import HostGpu


@pytest.fixture
def gpu() -> Iterator[HostGpu]:
    gpu = HostGpu()
    yield gpu
    gpu.close()
