"""What the operating system says about this machine's processor."""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path

_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # as Linux names it; the last on Arm


@dataclass(frozen=True)
class Processor:
    """`flags` are what it can do, in Linux's words; empty where the system does not say."""

    name: str
    flags: frozenset[str]

    @property
    def bfloat16(self) -> bool | None:
        """Whether it computes in bfloat16; None where the system does not say."""
        return bool(_BFLOAT16 & self.flags) if self.flags else None

    @property
    def identity(self) -> str | None:
        """Tells it from processors that other code would be chosen for; None where that is not
        known."""
        if not self.flags:
            return None
        digest = hashlib.sha256(" ".join(sorted(self.flags)).encode()).hexdigest()
        return f"{self.name}, {platform.machine()}, {digest[:16]}"


def this_processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Processor:
    """The first core; on Linux alone it is known what it can do."""
    facts = _facts(cpuinfo)
    arm = " ".join(facts[key] for key in ("CPU implementer", "CPU part") if key in facts)
    return Processor(
        name=facts.get("model name") or arm or platform.processor() or platform.machine(),
        flags=frozenset((facts.get("flags") or facts.get("Features") or "").split()),
    )


def usable_cores() -> int:
    """How many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _facts(cpuinfo: Path) -> dict[str, str]:
    if not cpuinfo.exists():
        return {}
    first = cpuinfo.read_text(encoding="utf-8").partition("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines())
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}
