"""Refreshes the generated parts of README.md and docs/*.md, or lists the stale ones.

    python tools/docs.py [--check]

A generated part is enclosed by two comments, and written by the function of that name in `BLOCKS`:

    <!-- generated: scheduler names -->
    <!-- end of scheduler names -->
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import docs_faults
import docs_full_size
import docs_gpu
import docs_measured
import docs_prompts
import docs_ratios
import docs_reference
import docs_speed

ROOT = Path(__file__).parent.parent
BLOCKS: Mapping[str, Callable[[], str]] = {
    **docs_reference.BLOCKS,
    **docs_prompts.BLOCKS,
    **docs_ratios.BLOCKS,
    **docs_measured.BLOCKS,
    **docs_full_size.BLOCKS,
    **docs_gpu.BLOCKS,
    **docs_faults.BLOCKS,
    **docs_speed.BLOCKS,
}

_BLOCK = re.compile(
    r"(?P<begin><!-- generated: (?P<name>[^>]+?) -->\n).*?(?P<end><!-- end of (?P=name) -->)",
    re.DOTALL,
)
_BEGIN = re.compile(r"<!-- generated: ([^>]+?) -->")


def pages(root: Path = ROOT) -> Iterator[Path]:
    """The Markdown files that may hold generated parts."""
    yield root / "README.md"
    yield from sorted((root / "docs").glob("*.md"))


def names_in(text: str) -> list[str]:
    """The names of the generated parts of a page."""
    return _BEGIN.findall(text)


def refreshed(text: str, blocks: Mapping[str, Callable[[], str]] = BLOCKS) -> str:
    """The page with its generated parts written again. ValueError for a part that is unknown or has
    no end."""
    ended = [match["name"] for match in _BLOCK.finditer(text)]
    for name in names_in(text):
        if name not in blocks:
            raise ValueError(f"generated: {name!r} is unknown, expected one of {sorted(blocks)}")
        if name not in ended:
            raise ValueError(f"generated: {name!r} has no end: write <!-- end of {name} -->")
    return _BLOCK.sub(
        lambda match: f"{match['begin']}\n{blocks[match['name']]().strip()}\n\n{match['end']}", text
    )


def main(*, check: bool) -> int:
    """Writes the pages, or only names the stale ones; the exit code."""
    stale = [page for page in pages() if refreshed(_text(page)) != _text(page)]
    for page in stale:
        if not check:
            page.write_text(refreshed(_text(page)), encoding="utf-8")
        print(f"{page.relative_to(ROOT)}: {'stale' if check else 'written'}")
    return 1 if check and stale else 0


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    sys.exit(main(check=parser.parse_args().check))
