"""Facts from the operating system about this machine's processor."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from sdrt_engines.operating_system import usable_processors

_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # as Linux names it; the last on Arm
_CPUINFO = Path("/proc/cpuinfo")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container


@dataclass(frozen=True)
class Processor:
    """A processor. `flags` are its features in Linux's words; empty if the system reports none."""

    name: str
    flags: frozenset[str]

    @property
    def bfloat16(self) -> bool | None:
        """True if it computes in bfloat16; None if unknown."""
        return bool(_BFLOAT16 & self.flags) if self.flags else None

    @property
    def identity(self) -> str | None:
        """Identifies processors for which the same kernels are chosen; None if the system does not
        report enough."""
        if not self.flags:
            return None
        digest = hashlib.sha256(" ".join(sorted(self.flags)).encode()).hexdigest()
        return f"{self.name}, {platform.machine()}, {digest[:16]}"


def this_processor(cpuinfo: Path = _CPUINFO) -> Processor:
    """The first core's processor; its features are known only on Linux."""
    facts = _facts(cpuinfo)
    arm = " ".join(facts[key] for key in ("CPU implementer", "CPU part") if key in facts)
    return Processor(
        name=facts.get("model name") or arm or platform.processor() or platform.machine(),
        flags=frozenset((facts.get("flags") or facts.get("Features") or "").split()),
    )


def usable_cores(quota: Path = _QUOTA) -> int:
    """The logical cores that this process may use: those that it is bound to, at most the processor
    time that its container is given."""
    bound, given = len(usable_processors()), _cores_of_quota(quota)
    return bound if given is None else min(bound, given)


def num_physical_cores(cpuinfo: Path = _CPUINFO, usable: Set[int] | None = None) -> int | None:
    """The physical cores among those that this process is bound to; None if the system does not
    report them."""
    usable = usable_processors() if usable is None else usable
    cores = [core for core in _cores(cpuinfo) if int(core.get("processor", -1)) in usable]
    places = {(core.get("physical id"), core.get("core id")) for core in cores}
    return None if not places or (None, None) in places else len(places)


def _cores_of_quota(quota: Path) -> int | None:
    """A container's share of processor time, in cores; None without a limit."""
    try:
        share, period = map(int, quota.read_text(encoding="ascii").split())
    except (OSError, ValueError):  # the file is missing or contains "max"
        return None
    return max(math.ceil(share / period), 1)


def _facts(cpuinfo: Path) -> dict[str, str]:
    return next(_cores(cpuinfo), {})


def _cores(cpuinfo: Path) -> Iterator[dict[str, str]]:
    """The fields that Linux reports for each logical core."""
    if not cpuinfo.exists():
        return
    for block in cpuinfo.read_text(encoding="utf-8").strip().split("\n\n"):
        pairs = (line.split(":", 1) for line in block.splitlines())
        yield {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}
