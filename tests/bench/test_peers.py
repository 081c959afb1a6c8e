"""The bench of peers: the order of visits, the reports of processes, and the tables."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peers import savings, sdxl
from peers.contestants import (
    CONTESTANTS,
    FURTHER,
    LONG,
    NUM_ROUNDS,
    ORACLE,
    SAVING,
    SAVING_CONTESTANTS,
    SDXL_CONTESTANTS,
    SDXL_STEPS,
    SHORT,
    Question,
)
from peers.equal_precision import relative_figures
from peers.report import page
from peers.rows import step_of
from peers.schedule import fastest_first, missing_visits
from peers.visits import PROGRAMS, figures_of, wait

import sdrt

# Invented seconds of a step; the fastest peer beats all of our targets.
STEPS = {
    "OpenVINO GenAI bf16": 2.0,
    "sdrt openvino:int8": 2.1,
    "sdrt openvino:bf16": 2.2,
    "optimum-intel bf16": 2.3,
    "sdrt openvino": 4.0,
    "sdrt cpu": 4.5,
    "OpenVINO GenAI f32": 4.6,
    ORACLE: 8.0,
}


def row(
    contestant: str, question: Question = SHORT, number: int = 1, **facts: object
) -> dict[str, Any]:
    step = STEPS.get(contestant, 9.0)
    figures: dict[str, Any] = {
        "ready": 1.0,
        "first_step": 10.0,
        "first_image": 20.0,
        "steps": [step] * 3,
        "image": question.steps * step + 5,
        "stages": {"text_encoder": 0.1, "vae_decoder": 4.0},
        "num_calls": None,
        "versions": {"numpy": "2"},
        "psnr": 50.0,
    }
    if "error" in facts:
        figures = {}
    return {
        "run": "a run",
        "contestant": contestant,
        "question": {"name": question.name, "steps": question.steps},
        "round": number,
        "files": "cold" if number == 1 else "warm",
        "threads": 2,
        "machine": {"cpu": "a processor", "cores": 2, "system": "Linux", "python": "3.11"},
        "sdrt_commit": "abc",
        "peak_mib": 4000,
        **figures,
        **facts,
    }


def rows_of_round(number: int) -> list[dict[str, Any]]:
    return [row(contestant.name, number=number) for contestant in CONTESTANTS]


def all_short() -> list[dict[str, Any]]:
    return [*rows_of_round(1), *rows_of_round(2), *rows_of_round(3)]


def test_the_oracle_begins_and_everyone_follows() -> None:
    names = [visit.contestant.name for visit in missing_visits([])][: len(CONTESTANTS)]
    assert names[0] == ORACLE
    assert sorted(names) == sorted(contestant.name for contestant in CONTESTANTS)


def test_rounds_alternate() -> None:
    rounds = [visit.round for visit in missing_visits([]) if visit.question == SHORT]
    assert rounds == sorted(rounds)
    assert rounds.count(1) == rounds.count(2) == rounds.count(3)


def test_a_second_call_continues_where_the_first_stopped() -> None:
    rows = rows_of_round(1)[:5]
    visits = list(missing_visits(rows))
    done = {(each["contestant"], each["question"]["name"], each["round"]) for each in rows}
    assert not done & {visit.key for visit in visits}
    assert len(visits) + len(rows) >= 3 * len(CONTESTANTS)


def test_who_failed_is_not_asked_again() -> None:
    rows = [row(CONTESTANTS[-1].name, error="it was ended at its time limit")]
    assert CONTESTANTS[-1].name not in {visit.contestant.name for visit in missing_visits(rows)}


def test_the_four_fastest_make_the_long_image() -> None:
    visits = [visit for visit in missing_visits(all_short()) if visit.question == LONG]
    assert [visit.contestant.name for visit in visits] == list(STEPS)[:4]


def test_presets_run_next_to_the_peers_in_turns() -> None:
    visits = list(savings.missing_visits([]))
    contestants = [each.name for each in SAVING_CONTESTANTS]
    for number, question in product((1, 2), SAVING):
        asked = [
            visit.contestant.name
            for visit in visits
            if (visit.round, visit.question) == (number, question)
        ]
        assert asked == contestants
    rows = [row(contestants[0], SAVING[0])]
    assert list(savings.missing_visits(rows)) == visits[1:]


def test_our_targets_and_the_two_fastest_peers_are_asked_further() -> None:
    visits = [visit for visit in missing_visits(all_short()) if visit.question in FURTHER]
    ours = ["sdrt openvino:int8", "sdrt openvino:bf16", "sdrt openvino", "sdrt cpu"]
    peers = ["OpenVINO GenAI bf16", "optimum-intel bf16"]
    for question in FURTHER:
        asked = [visit.contestant.name for visit in visits if visit.question == question]
        assert [name for name in asked if name in ours] == ours
        with_peers = question.kind != "control"  # these two have no ControlNets
        assert [name for name in asked if name not in ours] == (peers if with_peers else [])


def test_nothing_is_left_when_all_is_measured() -> None:
    rows = all_short()
    while missing := list(missing_visits(rows)):
        rows += [row(visit.contestant.name, visit.question, visit.round) for visit in missing]
    assert fastest_first(rows)[0].name == "OpenVINO GenAI bf16"


def test_a_failure_further_on_is_not_repeated() -> None:
    rows = all_short()
    first = next(missing_visits(rows))
    rows.append(row(first.contestant.name, first.question, error="out of memory"))
    assert first.key not in {visit.key for visit in missing_visits(rows)}


def test_our_targets_are_compared_with_the_best_peer_of_the_same_round_and_precision() -> None:
    rows = [
        row("sdrt openvino", number=1, first_step=9.0, peak_mib=6000),
        row("sdrt openvino", number=2, first_step=7.0, peak_mib=5000),
        row("OpenVINO GenAI f32", number=1, first_step=14.6),
        row("OpenVINO GenAI f32", number=2, first_step=9.6),
        row(ORACLE, number=2, first_step=30.0, peak_mib=2500),
        row("OpenVINO GenAI bf16", number=2, first_step=2.0, peak_mib=100),
    ]
    own_step, step = STEPS["sdrt openvino"], STEPS["OpenVINO GenAI f32"]
    assert relative_figures(rows) == [
        (
            "sdrt openvino",
            f"{(7.0 - own_step) / 5:.2f}",
            f"{(9.0 - own_step) / 10:.2f}",
            f"{own_step / step:.2f}",
            f"{(6000 / 4000 + 5000 / 2500) / 2:.2f}",
            f"{4 / own_step:.2f}",
        )
    ]


def test_figures_count_from_the_start_of_the_process() -> None:
    report = {
        "ready": 102.0,
        "versions": {},
        "first": {"begin": 102.0, "step_ends": [110.0, 112.0], "end": 115.0, "stages": {}},
        "warm": {"begin": 115.0, "step_ends": [118.0, 120.0, 123.0], "end": 125.0, "stages": {}},
    }
    figures = figures_of(report, begin=100.0)
    assert (figures["ready"], figures["first_step"], figures["first_image"]) == (2.0, 10.0, 15.0)
    assert figures["steps"] == [2.0, 3.0]
    assert figures["image"] == 10.0


def test_a_process_is_ended_at_its_time_limit() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    error, usage = wait(process, time.time() + 0.2)
    assert error == "it was ended at its time limit"
    assert process.returncode != 0
    assert usage.ru_maxrss > 0


def test_a_process_is_ended_when_it_needs_too_much_memory() -> None:
    program = "import time; numbers = bytearray(300 << 20); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", program])
    error, _ = wait(process, time.time() + 60, most_gib=0.2)
    assert error == "it needed more than 0.2 GiB"
    assert process.returncode != 0


def test_sdxl_s_rounds_alternate_and_leave_out_what_does_not_fit() -> None:
    visits = list(sdxl.missing_visits([]))
    assert visits[0].contestant.name == ORACLE
    assert len(visits) == NUM_ROUNDS * len(SDXL_CONTESTANTS)
    rows = [
        row("sdrt cpu", SDXL_STEPS, error="it needed more than 18 GiB"),
        row(ORACLE, SDXL_STEPS),
    ]
    keys = [visit.key for visit in sdxl.missing_visits(rows)]
    assert not [name for name, _, _ in keys if name == "sdrt cpu"]
    assert (ORACLE, SDXL_STEPS.name, 1) not in keys
    assert (ORACLE, SDXL_STEPS.name, 2) in keys


def test_presets_have_a_table_on_the_page() -> None:
    ours, _, theirs, _ = (each.name for each in SAVING_CONTESTANTS)
    rows = [row(theirs, question, image=80.0) for question in SAVING]
    for number, image in ((1, 30.0), (2, 34.0)):
        rows.append(row(ours, SAVING[0], number, image=image, num_calls=8))
    text = page(all_short(), rows).partition("## 20 steps with less work")[2]
    assert f"| {ours} | 2 | 8 | 32.0 | 0.40 |" in text
    assert f"| {theirs} | 7.5 | 20 | 80.0 | 1.00 |" in text
    assert "less work" not in page(all_short())


def test_sdxl_has_a_table_on_the_page() -> None:
    rows = [
        row(ORACLE, SDXL_STEPS, steps=[80.0]),
        row("sdrt openvino:bf16", SDXL_STEPS, steps=[40.0]),
        row("sdrt cpu", SDXL_STEPS, error="it needed more than 18 GiB"),
    ]
    text = page(all_short(), sdxl=rows).partition("## SDXL at 1024×1024")[2]
    assert "| sdrt openvino:bf16 | 40.0 (40.00 to 40.00) | 0.50 |" in text
    assert "| sdrt cpu | does not fit: it needed more than 18 GiB |" in text
    assert "SDXL" not in page(all_short())


def test_the_page_holds_losses_as_well_as_wins() -> None:
    text = page(all_short())
    assert (
        "- 4 steps, bf16: faster than sdrt openvino:bf16: OpenVINO GenAI bf16 (0.94 of its time)."
    ) in text
    assert (
        "- 4 steps, fp32: sdrt openvino takes 0.90 of the time of the next, OpenVINO GenAI f32."
    ) in text
    line = next(line for line in text.splitlines() if line.startswith("| sdrt cpu"))
    assert "4.50 (4.50 to 4.50) | 0.56 |" in line


def test_the_page_says_who_failed() -> None:
    text = page(
        [*all_short(), row("stable-diffusion.cpp f16", error="it was ended at its time limit")]
    )
    assert "| stable-diffusion.cpp f16 | it was ended at its time limit |" in text


@pytest.mark.parametrize("name", [ORACLE, "sdrt cpu", "OpenVINO GenAI bf16"])
def test_there_is_a_page_as_soon_as_there_is_a_row(name: str) -> None:
    assert f"| {name} |" in page([row(name)])
    assert f"| {name} |" in page([row(name), row(name, LONG)])


def test_a_step_is_the_median_of_a_row() -> None:
    assert step_of({"steps": [1.0, 9.0, 2.0]}) == 2.0


def job_of(tmp_path: Path, **facts: object) -> dict[str, object]:
    image = Path(__file__).parents[2] / "docs" / "square_outline.png"
    job = {
        "model": "demo",
        "controlnet": "",
        "noise": "",
        "image": str(image),
        "images": str(tmp_path / "images.npy"),
        "first_steps": 2,
        "steps": 4,
        "kind": "text",
        "num_images": 2,
        "num_threads": 1,
        "decode": True,
        "size": 64,
        "prompt": "a large red circle on a white background",
        "guidance_scale": 3.0,
        "strength": 0.5,
        "options": {"target": "cpu", "speed": "exact"},
    }
    return job | facts


def figures_of_our_program(job: Mapping[str, object]) -> dict[str, Any]:
    command = [sys.executable, str(PROGRAMS / "with_sdrt.py"), json.dumps(job)]
    start = time.time()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return figures_of(json.loads(done.stdout.splitlines()[-1]), start)


@pytest.mark.parametrize("kind", ["text", "image", "control"])
def test_our_program_generates_with_the_demo_model(kind: str, tmp_path: Path) -> None:
    """The program that the peers' programs resemble, with the real bundle and protocol."""
    figures = figures_of_our_program(job_of(tmp_path, kind=kind))
    num_steps = 2 if kind == "image" else 4  # at strength 0.5
    assert len(figures["steps"]) == num_steps - 1
    assert 0 < figures["ready"] < figures["first_step"] < figures["first_image"]
    assert figures["versions"]["sdrt"] == sdrt.__version__
    assert np.load(tmp_path / "images.npy").shape == (2, 64, 64, 3)


def test_our_program_ends_with_the_last_step(tmp_path: Path) -> None:
    job = job_of(tmp_path, first_steps=0, steps=3, decode=False, num_images=1)
    figures = figures_of_our_program(job)
    assert len(figures["steps"]) == 2
    assert np.load(tmp_path / "images.npy").shape == (1, 4, 8, 8)
