"""The part of a mapped file that is in memory, as Linux reports it."""

from __future__ import annotations

import re
from pathlib import Path


def resident(path: Path) -> int:
    """Bytes of the file, which this process maps once."""
    text = Path("/proc/self/smaps").read_text(encoding="utf-8")
    (found,) = re.findall(rf"{re.escape(str(path))}\n(?:.*\n)*?Rss: *(\d+) kB", text)
    return int(found) * 1024
