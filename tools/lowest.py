"""Prints the lowest versions that pyproject.toml allows, as requirements for pip.

    python tools/lowest.py [EXTRA ...]

gives those of the core and of the named extras, except torch's: pip's index has CPU builds of few
versions, so the requirements that `make test-lowest` adds name one.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def lowest_requirements(project: Mapping[str, Any], extras: Sequence[str]) -> list[str]:
    """The exact requirements at the lower bounds of the core and these extras, sorted."""
    ranges = [*project["dependencies"]]
    for extra in extras:
        ranges += project["optional-dependencies"][extra]
    return sorted({each.replace(">=", "==") for each in ranges if not each.startswith("torch>")})


if __name__ == "__main__":
    metadata = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    print(*lowest_requirements(metadata["project"], sys.argv[1:]), sep="\n")
