"""A bundle cannot write to the terminal: control characters of its texts are shown, not obeyed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sdrt.bundle.manifest import sealed
from sdrt.command_line.main import main
from sdrt.command_line.printable import printable
from support.refusals import Capture

TITLE = "\x1b]0;pwned\x07"  # changes the title of a terminal's window
HIDDEN = "\x9b8m\u202egnp.exe\r"


@pytest.fixture
def bundle(folder: Path) -> Path:
    """A bundle whose texts are commands to a terminal."""
    path = folder / "bundle/sdrt.json"
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    document["source"] = TITLE + HIDDEN
    document["family"]["name"] = TITLE
    document["tools"] = {TITLE: HIDDEN}
    document["components"][0]["precision"] = HIDDEN
    path.write_text(json.dumps(sealed(document)), encoding="utf-8")
    return path.parent


@pytest.mark.parametrize(
    "command", [["inspect"], ["inspect", "--json"], ["doctor"], ["doctor", "--json"]]
)
def test_commands_show_control_characters(
    command: list[str], bundle: Path, capsys: Capture
) -> None:
    assert main([*command, str(bundle)]) == 0
    out, err = capsys.readouterr()
    assert out == printable(out)
    assert err == printable(err)
    if command == ["inspect"]:
        assert r"\u001b]0;pwned" in out
    if command == ["inspect", "--json"]:
        assert json.loads(out)["source"] == TITLE + HIDDEN


def test_errors_show_control_characters(bundle: Path, capsys: Capture) -> None:
    path = bundle / "sdrt.json"
    path.write_text(path.read_text(encoding="utf-8").replace("denoiser", "\\u001b[2J"))
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(sealed(document)), encoding="utf-8")
    assert main(["run", str(bundle), "a red circle"]) == 1
    err = capsys.readouterr().err
    assert err == printable(err)
    assert r"\u001b[2J" in err


def test_line_breaks_and_letters_stay() -> None:
    assert printable("a\tb\nc ü 字 \u00a0") == "a\tb\nc ü 字 \u00a0"
