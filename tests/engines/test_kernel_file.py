from __future__ import annotations

from pathlib import Path

import pytest

from sdrt_engines.kernel_file import read_kernels, write_kernels

KERNELS = bytes(range(256))


def test_kernels_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "kernels/key/sm89.kernels"
    assert read_kernels(path) is None
    for kernels in (KERNELS, b""):
        write_kernels(path, kernels)
        assert read_kernels(path) == kernels
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("length", [0, 31, 32, 200])
def test_damaged_kernels_are_not_taken(tmp_path: Path, length: int) -> None:
    path = tmp_path / "sm89.kernels"
    write_kernels(path, KERNELS)
    path.write_bytes(path.read_bytes()[:length])
    assert read_kernels(path) is None


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "sm89.kernels").mkdir()
    with pytest.raises(OSError, match=r"sm89\.kernels"):
        write_kernels(tmp_path / "sm89.kernels", KERNELS)
    assert [path.name for path in tmp_path.iterdir()] == ["sm89.kernels"]
