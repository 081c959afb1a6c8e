from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.table import Table

from sdrt.benchmarking.figures import Figure
from sdrt.benchmarking.rows import Context
from sdrt.command_line.bench_tables import facts_table, figures_table, plot_title

CONTEXT = Context(
    bundle={"name": "demo", "digest": "0123456789abcdef"},
    settings={
        "width": 128,
        "height": 64,
        "num_inference_steps": 20,
        "guidance_scale": 7.5,
        "scheduler": "euler",
        "num_threads": 4,
    },
    machine={
        "processor": "EPYC",
        "cores": 8,
        "system": "Linux",
        "python": "3.11.7",
        "gpus": ["H100"],
    },
    date="2026-11-26T20:00:00+00:00",
)
FELL_BACK = "cpu (after cuda: unet: out of memory)"


def lines_of(table: Table) -> list[str]:
    text = StringIO()
    Console(file=text, width=120).print(table)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_facts_say_what_ran_and_what_failed_before() -> None:
    figures = [Figure("image", "s", (1.0,), FELL_BACK), Figure("batch 1", "images/s", (), "cpu")]
    bundle, first, second, image, machine = lines_of(facts_table(CONTEXT, figures))
    assert bundle.split() == ["bundle", "demo,", "0123456789ab"]
    assert first.startswith(f"target   {FELL_BACK}; sdrt ")
    assert second.startswith("target   cpu; sdrt ")
    assert image == "image    128×64, 20 steps, guidance scale 7.5, euler, 4 threads"
    assert machine == "machine  EPYC, 8 cores, H100; Linux, Python 3.11.7"


def test_a_verdict_is_a_fact() -> None:
    notes = {"verdict": "INVALID: slow"}
    figures = [Figure(name, "s", (1.0,), "cpu", notes=notes) for name in ("latency", "completed")]
    assert lines_of(facts_table(CONTEXT, figures))[-1] == "verdict  INVALID: slow"


def test_a_refused_batch_has_its_reason_in_its_line() -> None:
    figures = [
        Figure("vae_decoder", "s", (0.25,), "cpu"),
        Figure("batch 8", "images/s", (), "cpu", refusal="out of memory"),
    ]
    headings, stage, batch = lines_of(figures_table(figures))
    assert headings.split() == ["p50", "p90", "samples"]
    assert stage.split() == ["vae", "decoder", "250", "ms", "250", "ms", "1"]
    assert batch.split() == ["batch", "8", "0", "out", "of", "memory"]


def test_p99_has_a_column_if_there_are_samples_enough() -> None:
    figures = [
        Figure("latency", "s", tuple(float(number) for number in range(100)), "cpu"),
        Figure("completed", "queries/s", (2.0,), "cpu"),
    ]
    headings, latency, completed = lines_of(figures_table(figures))
    assert headings.split() == ["p50", "p90", "p99", "samples"]
    assert latency.split() == ["latency", "50.0", "s", "90.0", "s", "99.0", "s", "100"]
    assert completed.split() == ["completed", "2.00", "queries/s", "2.00", "queries/s", "1"]


def test_a_plot_s_title_says_the_same() -> None:
    first, second = plot_title(CONTEXT, [Figure("image", "s", (1.0,), "cpu")]).splitlines()
    assert first == "demo on cpu: 128×64, 20 steps, guidance scale 7.5, euler, 4 threads"
    assert second.startswith("EPYC, 8 cores, H100; Linux, Python 3.11.7; sdrt ")
