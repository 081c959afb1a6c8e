"""`sdrt tune`: measures a bundle's targets on this machine, for `auto` to take the fastest."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sdrt.bundle.folder import Bundle
from sdrt.command_line.console import PlainConsole
from sdrt.command_line.speed_meanings import meanings_of
from sdrt.command_line.verdict_tables import print_verdict
from sdrt.errors import UsageError
from sdrt.files.cache import require_writable
from sdrt.files.records import json_from_record
from sdrt.targets.tuned import Shape, Tuning
from sdrt.targets.tuned_file import forget_tuning, tuning_folder, write_tuning
from sdrt.tuning.candidates import Candidate, candidates_of, default_num_threads
from sdrt.tuning.measuring import measures_of
from sdrt.tuning.rounds import Measures, Part, Plan
from sdrt.tuning.tune import tune as measured_verdict
from sdrt.tuning.workload import Workload, workload_of
from sdrt_engines import Target
from sdrt_engines.threads import require_num_threads

_PARTS = {"text": "text encoder", "step": "denoiser", "decode": "VAE decoder"}


def tune(options: argparse.Namespace) -> None:
    """Measures, records and prints the verdict, or removes the existing one."""
    bundle = Bundle.open(options.bundle)
    if options.forget:
        _forget(bundle)
        return
    plan = plan_from_options(options, bundle)
    workloads = {shape: workload_of(bundle, shape) for shape in plan.shapes}
    require_writable(tuning_folder(bundle))  # first: measuring takes minutes
    verdict = _measured(bundle, plan, workloads)
    path = write_tuning(bundle, verdict)
    if options.json:
        sys.stdout.write(json.dumps(json_from_record(verdict), indent=2, allow_nan=False) + "\n")
        return
    console = PlainConsole()
    print_verdict(verdict, console)
    for meaning in meanings_of(bundle):
        console.print(str(meaning), soft_wrap=True)
    console.print(f"recorded in {path}", soft_wrap=True)


def _forget(bundle: Bundle) -> None:
    path = forget_tuning(bundle)
    sys.stdout.write(f"removed {path}\n" if path else "this bundle was not tuned on this machine\n")


def plan_from_options(options: argparse.Namespace, bundle: Bundle) -> Plan:
    """The measurements to make. SdrtError for impossible ones."""
    if options.runs < 1:
        raise UsageError(f"--runs: got {options.runs}, expected 1 or more")
    for num_threads in options.num_threads:
        require_num_threads(num_threads)
    targets = tuple(map(Target.parse, options.targets))
    num_threads = tuple(dict.fromkeys(options.num_threads)) or default_num_threads()
    candidates = candidates_of(bundle, targets, num_threads)
    return Plan(candidates, shapes_from_options(options, bundle), options.runs)


def shapes_from_options(options: argparse.Namespace, bundle: Bundle) -> tuple[Shape, ...]:
    """Each width with its height, in each batch; a single one goes with all others."""
    widths = options.width or [bundle.defaults["width"]]
    heights = options.height or [bundle.defaults["height"]]
    count = max(len(widths), len(heights))
    if {len(widths), len(heights)} - {1, count}:
        raise UsageError(
            f"got {len(widths)} widths and {len(heights)} heights, expected the same number of "
            "each, or one of either: give each width its height"
        )
    widths, heights = (sides * (count // len(sides)) for sides in (widths, heights))
    sizes = zip(widths, heights, strict=True)
    shapes = [Shape(*size, batch) for size in sizes for batch in options.batch]
    return tuple(dict.fromkeys(shapes))


def _measured(bundle: Bundle, plan: Plan, workloads: Mapping[Shape, Workload]) -> Tuning:
    num_steps = workloads[plan.shapes[0]].num_steps
    measures = measures_of(bundle, workloads)
    if not sys.stderr.isatty():
        return measured_verdict(bundle, plan, measures, num_steps)
    with shown(measures, plan) as watched:
        return measured_verdict(bundle, plan, watched, num_steps)


@contextmanager
def shown(measures: Measures, plan: Plan) -> Iterator[Measures]:
    """The same measures, with a temporary bar on stderr that shows the current one."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        bar = progress.add_task("", total=plan.num_measurements)

        def seconds(candidate: Candidate, shape: Shape, part: Part) -> float:
            progress.update(bar, description=f"{candidate}: {_PARTS[part]}, {shape}")
            taken = measures.seconds(candidate, shape, part)
            progress.advance(bar)
            return taken

        def psnr(target: Target) -> float | None:
            progress.update(bar, description=f"{target}: compared with the CPU")
            found = measures.psnr(target)
            progress.advance(bar)
            return found

        yield Measures(seconds, psnr)
