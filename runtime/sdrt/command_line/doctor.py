"""`sdrt doctor`: the targets that open on this machine, and what the others need."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass, replace

from rich.console import Console
from rich.table import Table

import sdrt
from sdrt.bundle.folder import Bundle
from sdrt.command_line.bundle_diagnosis import diagnosis_of_bundle, print_bundle
from sdrt.command_line.console import PlainConsole
from sdrt.command_line.printable import printable
from sdrt.files.records import json_from_record
from sdrt.targets.forecast import memory_text
from sdrt.targets.reservations import IN_MEMORY
from sdrt_engines import BACKENDS, Backend, FreeMemory, Target, refusal_of, variants_of
from sdrt_engines.nvidia_driver import Gpu, cuda_version, gpus
from sdrt_engines.onnxruntime_cuda import WAY_OUT_OF_BOTH
from sdrt_engines.packages import installed_versions
from sdrt_engines.processor import this_processor, usable_cores


@dataclass(frozen=True)
class Cpu:
    """The processor; `bfloat16` is None if unknown."""

    name: str
    cores: int  # that this process may use
    bfloat16: bool | None


@dataclass(frozen=True)
class TargetState:
    """A target, and if it opens here; `reason` is why not, with a remedy."""

    target: str
    opens: bool
    reason: str | None
    packages: dict[str, str]  # installed, with their versions


@dataclass(frozen=True)
class Diagnosis:
    """The findings of `sdrt doctor`."""

    sdrt: str
    python: str
    system: str
    cpu: Cpu
    memory: FreeMemory | None  # None: not reported, or not limited
    gpus: tuple[Gpu, ...]
    cuda: str | None  # the newest version that the driver supports
    auto: str | None  # the target that "auto" takes, for the bundle if there is one
    targets: tuple[TargetState, ...]
    notes: tuple[str, ...]


def doctor(path: str | None = None, *, as_json: bool) -> None:
    """Prints the diagnosis, and that of the bundle at `path`. A target that does not open is not an
    error."""
    bundle = None if path is None else diagnosis_of_bundle(Bundle.open(path))
    found = diagnosis()
    if bundle is not None:
        found = replace(found, auto=bundle.auto)
    if as_json:
        document = asdict(found) | ({} if bundle is None else {"bundle": json_from_record(bundle)})
        sys.stdout.write(printable(json.dumps(document, indent=2, ensure_ascii=False)) + "\n")
        return
    console = PlainConsole()
    _print(found, console)
    if bundle is not None:
        console.print()
        print_bundle(bundle, console, [state.reason for state in found.targets if state.reason])


def diagnosis() -> Diagnosis:
    """Examines this machine and the packages installed on it."""
    cuda = cuda_version()
    targets = tuple(
        _state(backend, target) for backend in BACKENDS for target in variants_of(backend)
    )
    return Diagnosis(
        sdrt=sdrt.__version__,
        python=platform.python_version(),
        system=platform.platform(),
        cpu=_cpu(),
        memory=IN_MEMORY.free(),
        gpus=gpus(),
        cuda=".".join(map(str, cuda)) if cuda > (0, 0) else None,
        auto=next((state.target for state in targets if state.opens), None),
        targets=targets,
        notes=tuple(filter(None, [_note_on_onnxruntime()])),
    )


def _print(found: Diagnosis, console: Console) -> None:
    console.print(_facts(found))
    console.print()
    console.print(_targets(found))
    for note in found.notes:
        console.print()
        console.print(note, soft_wrap=True)


def _state(backend: Backend, target: Target) -> TargetState:
    reason = refusal_of(backend, target)
    return TargetState(str(target), reason is None, reason, installed_versions(*backend.packages))


def _note_on_onnxruntime() -> str | None:
    found = installed_versions("onnxruntime", "onnxruntime-gpu")
    if len(found) < 2:
        return None
    names = " and ".join(f"{name} {number}" for name, number in found.items())
    return (
        f"{names} are both installed and write the same files: those installed last count. "
        f"If the target cuda does not open despite a GPU: {WAY_OUT_OF_BOTH}"
    )


def _cpu() -> Cpu:
    processor = this_processor()
    return Cpu(
        name=processor.name,
        cores=usable_cores(),
        bfloat16=processor.bfloat16,
    )


def _facts(found: Diagnosis) -> Table:
    cpu = found.cpu
    bfloat16 = {True: "with bfloat16", False: "without bfloat16", None: "bfloat16 unknown"}
    table = Table.grid(padding=(0, 2))
    table.add_row("sdrt", f"{found.sdrt}, Python {found.python}, {found.system}")
    table.add_row("CPU", f"{cpu.name}, {cpu.cores} cores, {bfloat16[cpu.bfloat16]}")
    if found.memory is not None:
        table.add_row("memory", f"{memory_text(found.memory.size)} free {found.memory.limit}")
    for gpu in found.gpus:
        size = f"{gpu.memory / 2**30:.0f} GiB"
        table.add_row("GPU", f"{gpu.name}, {gpu.architecture}, {size}, CUDA {found.cuda}")
    if not found.gpus:
        table.add_row("GPU", "none reported by an NVIDIA driver")
    table.add_row("auto", found.auto or "no target opens")
    return table


def _targets(found: Diagnosis) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("target", "here", "library"):
        table.add_column(heading, no_wrap=True)
    table.add_column("why not")
    for state in found.targets:
        packages = ", ".join(f"{name} {number}" for name, number in state.packages.items())
        opens = "opens" if state.opens else "no"
        table.add_row(state.target, opens, packages or "not installed", state.reason or "")
    return table
