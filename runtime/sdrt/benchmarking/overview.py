"""The default measurements of `sdrt bench`: cold start, stages and steps of an image, batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from sdrt.benchmarking.cold_start import WARMED, cold_start, cold_start_figures, start_figures
from sdrt.benchmarking.figures import Figure
from sdrt.benchmarking.workload import Report, Run, Served, Workload, unreported
from sdrt.errors import NonFiniteError
from sdrt.pipeline import Pipeline
from sdrt_engines import EngineError


@dataclass(frozen=True)
class Overview:
    """The number of repetitions of each measurement."""

    runs: int = 5  # images; larger batches take fewer runs
    batches: tuple[int, ...] = (1, 2, 4)
    cold_starts: int = 1
    warmed_starts: int = 0  # of processes that run every network before they are ready

    def figures(self, workload: Workload, report: Report = unreported) -> Iterator[Figure]:
        """Measures. The cold start comes first, before anything has warmed up the machine."""
        if self.cold_starts:
            report("cold start")
            yield from cold_start_figures([cold_start(workload) for _ in range(self.cold_starts)])
        if self.warmed_starts:
            report("warmed start")
            starts = [cold_start(workload, warm_up=True) for _ in range(self.warmed_starts)]
            yield from start_figures(WARMED, starts)
        with workload.open() as pipeline:
            serve = Served(pipeline, workload, num_runs=self.runs, report=report)
            serve.warm_up()
            yield from image_figures([serve(number) for number in range(self.runs)])
            named = workload.on(pipeline.target)
        # A named target: under "auto" a batch that is too large would run on the next target.
        with named.open() as pipeline:
            for batch in self.batches:
                report(f"batch {batch}")
                yield batch_figure(pipeline, named, batch, ceil(self.runs / batch))


def image_figures(runs: Sequence[Run]) -> Iterator[Figure]:
    """The seconds of an image, of each of its stages and of a denoising step."""
    target = runs[0].target
    yield Figure("image", "s", tuple(run.timings.total for run in runs), target)
    stages = [{**run.timings.seconds, "host": run.timings.host} for run in runs]
    for name in stages[0]:
        seconds = tuple(stage[name] for stage in stages)
        yield Figure(name, "s", seconds, target, notes={"part_of": "image"})
    # Unknown for an image of one step: the time before it includes other work.
    if steps := tuple(seconds for run in runs for seconds in run.steps):
        yield Figure("denoising step", "s", steps, target)
        yield Figure("denoising steps", "it/s", tuple(1 / seconds for seconds in steps), target)


def batch_figure(pipeline: Pipeline, workload: Workload, batch: int, num_runs: int) -> Figure:
    """Images per second if `batch` are generated at once.

    A batch that the target cannot run, for lack of a plan or of memory, gives a figure with a
    refusal.
    """
    name, serve = f"batch {batch}", Served(pipeline, workload, batch)
    try:
        serve.warm_up()
        runs = [serve(number) for number in range(num_runs)]
    except (EngineError, NonFiniteError) as error:
        refusal = " ".join(str(error).split())
        return Figure(name, "images/s", (), str(pipeline.target), refusal, {"batch": batch})
    rates = tuple(batch / run.timings.total for run in runs)
    return Figure(name, "images/s", rates, serve.target, notes={"batch": batch})
