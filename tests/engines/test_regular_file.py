"""Only regular files are read, whatever stands at a path."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sdrt_engines.regular_file import open_regular, read_regular


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


OTHERS = [
    (a_fifo, "Is a FIFO"),
    (a_socket, "Is a socket"),
    (a_folder, "Is a directory"),
    (a_link_to_a_device, "Is a device"),
    (a_link_to_itself, "Too many levels of symbolic links"),
]


@pytest.mark.parametrize(("make", "reason"), OTHERS)
def test_other_things_than_files_are_refused(make: Callable[[Path], None], reason: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        make(Path(folder) / "x")
        with pytest.raises(OSError, match=reason) as caught:
            read_regular(Path(folder) / "x")
    assert caught.value.strerror == reason


def test_what_replaces_a_file_before_it_is_opened_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"content")
    os.mkfifo(tmp_path / "fifo")
    places = [tmp_path / "fifo"]

    def replace(event: str, arguments: tuple[object, ...]) -> None:  # hooks stay for ever
        if event == "open" and arguments[0] == str(tmp_path / "x") and places:
            places.pop().rename(tmp_path / "x")

    sys.addaudithook(replace)
    with pytest.raises(OSError, match="Is a FIFO"):
        open_regular(tmp_path / "x")
    assert not places


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"content")
    (tmp_path / "link").symlink_to("x")
    assert read_regular(str(tmp_path / "link")) == b"content"
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "gone")
