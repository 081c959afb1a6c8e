"""`sdrt set`: changes the defaults of a bundle."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sdrt.bundle.defaults import Change, set_defaults
from sdrt.bundle.demo import DEMO
from sdrt.bundle.folder import Bundle
from sdrt.command_line.printable import printable
from sdrt.errors import UsageError
from sdrt.recommended import RECOMMENDED


def set_(options: argparse.Namespace) -> None:
    """Changes defaults, and prints those of the bundle."""
    changes: dict[str, Change] = {}
    for setting in options.settings:
        name, value = _parsed(setting)
        if name in changes:
            raise UsageError(f"{name} is given twice (see sdrt set --help)")
        changes[name] = value
    root = Bundle.open(DEMO).root if options.bundle == DEMO else Path(options.bundle)
    manifest = set_defaults(root, changes, lambda: _report(root))
    defaults = {**manifest.family.defaults, **manifest.defaults}
    listed = " ".join(f"{name}={defaults[name]}" for name in RECOMMENDED)
    sys.stdout.write(f"{printable(root)}: {listed}\n")


def _parsed(setting: str) -> tuple[str, Change]:
    name, equals, text = setting.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not name:
        raise UsageError(f"got {setting!r}, expected NAME=VALUE, as in guidance_scale=5")
    if not text.strip():
        return name, None
    whole = name in RECOMMENDED and RECOMMENDED[name].whole
    try:
        return name, int(text) if whole else float(text)
    except ValueError as error:
        expected = RECOMMENDED.get(name, "a number")
        raise UsageError(f"{name}: got {text[:40]!r}, expected {expected}") from error


def _report(root: Path) -> None:
    sys.stderr.write(f"waiting for another writer of {printable(root)} to end\n")
