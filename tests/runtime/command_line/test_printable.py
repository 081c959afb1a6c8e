"""Text for a terminal."""

from __future__ import annotations

import pytest

from sdrt.command_line.main import main
from sdrt.command_line.printable import printable, shortened


def test_control_characters_are_shown() -> None:
    assert printable("a\x1b]0;x\x07\0b") == "a\\u001b]0;x\\u0007\\u0000b"
    assert printable("größe\n\té") == "größe\n\té"


def test_endless_words_are_cut_in_the_middle() -> None:
    assert shortened(f"no {'9' * 5000} here") == f"no {'9' * 140}…{'9' * 140} here"
    assert shortened("a " * 500) == "a " * 500


def test_an_error_is_a_line_that_people_can_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["verify", "demo", f"--target={'9' * 5000}"]) == 1
    assert len(capsys.readouterr().err) < 500
