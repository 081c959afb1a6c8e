"""The current conditions under which a verdict of `sdrt tune` holds: machine, libraries, bundle."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import ENGINES
from sdrt.targets.tuned import Conditions, Machine
from sdrt_engines import BACKENDS
from sdrt_engines.nvidia_driver import gpus
from sdrt_engines.packages import installed_versions
from sdrt_engines.processor import this_processor, usable_cores
from sdrt_engines.regular_file import read_regular


def this_machine() -> Machine:
    processor = this_processor()
    return Machine(
        processor=processor.identity or processor.name,
        num_cores=usable_cores(),
        gpus=tuple(gpu.name for gpu in gpus()),
    )


def conditions_of(bundle: Bundle) -> Conditions:
    """The current conditions of the bundle on this machine."""
    packages = dict.fromkeys(name for backend in BACKENDS for name in backend.packages)
    return Conditions(
        machine=this_machine(),
        packages=installed_versions(*packages),
        manifest=_digest(bundle.manifest.to_json()),
        built=_digest_of_built(bundle.root),
    )


def change_between(then: Conditions, now: Conditions) -> str | None:
    """A change since `then`, as the end of a sentence; None if nothing has changed."""
    if then.machine != now.machine:
        return f"it was measured on another machine ({then.machine})"
    for package in sorted(then.packages.keys() | now.packages.keys()):
        before, after = (each.packages.get(package, "not installed") for each in (then, now))
        if before != after:
            return f"{package} was {before} then and is {after} now"
    if then.manifest != now.manifest:
        return "the bundle was exported again or changed since then"
    if then.built != now.built:
        return "engines of the bundle were built or removed since then"
    return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


def _digest_of_built(root: Path) -> str:
    """A digest over the records, which hold the digests of their files."""
    digest = hashlib.sha256()
    for path in sorted((root / ENGINES).rglob("*.json")):
        content = read_regular(path)
        digest.update(f"{path.relative_to(root).as_posix()}\n{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
