"""`sdrt tune` and `sdrt doctor BUNDLE` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdrt import Bundle, Pipeline
from sdrt.command_line.main import main
from sdrt.command_line.tune import shown
from sdrt.targets.tuned_file import tuning_path
from sdrt.tuning.rounds import measured
from support.backends import skip_unless_it_opens
from support.invented_times import AMD, INTEL, invented, plan_for, tuned_with
from support.refusals import Capture, refusal
from support.toy_bundle import write_toy_bundle

BRIEF = ["--runs", "1", "--width", "64", "--height", "64"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate cache: other tests open the demo as on a machine without measurements."""
    monkeypatch.setenv("SDRT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "cache"


@pytest.fixture
def toy(tmp_path: Path) -> Bundle:
    return Bundle.open(write_toy_bundle(tmp_path / "toy"))


def test_auto_follows_what_was_measured(capsys: Capture) -> None:
    skip_unless_it_opens("openvino")
    targets = ["--target", "cpu", "--target", "openvino"]
    assert main(["tune", "demo", *targets, *BRIEF]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    title, headings, *rows = out.splitlines()
    assert title.split() == ["64×64,", "20", "steps"]
    assert headings.split()[:2] == ["target", "threads"]
    assert {row.split()[0] for row in rows[:2]} == {"cpu", "openvino"}
    (taken,) = (row.split()[-1] for row in rows if row.startswith("auto takes"))
    (row,) = (row for row in rows if row.rstrip().endswith("takes it"))
    assert row.split()[0] == taken
    with Pipeline.open("demo") as pipeline:
        assert str(pipeline.target) == taken
    assert main(["doctor", "demo"]) == 0
    diagnosis = capsys.readouterr().out
    assert f"\n{row}" in diagnosis
    assert f"\nauto takes {taken}" in diagnosis


def test_programs_read_the_verdict(toy: Bundle, capsys: Capture) -> None:
    arguments = ["--target", "cpu", "--num-threads", "1,2", "--batch", "1,2", *BRIEF]
    assert main(["tune", str(toy.root), *arguments, "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["shapes"] == [
        {"width": 64, "height": 64},
        {"width": 64, "height": 64, "batch": 2},
    ]
    (cpu,) = verdict["targets"]
    assert [trial["num_threads"] for trial in cpu["trials"]] == [1, 2]
    assert all(len(trial["steps"]) == 2 for trial in cpu["trials"])
    assert main(["doctor", str(toy.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bundle"]["verdicts"] == [
        {"path": str(tuning_path(toy)), "fault": None, "verdict": verdict}
    ]


def test_the_verdict_is_forgotten(toy: Bundle, capsys: Capture) -> None:
    tuned_with(toy, INTEL)
    path = tuning_path(toy)
    for answer in (f"removed {path}", "this bundle was not tuned on this machine"):
        assert main(["tune", str(toy.root), "--forget"]) == 0
        assert capsys.readouterr().out == f"{answer}\n"
    assert not path.exists()


def test_a_network_that_fails_is_an_error_with_its_reason(tmp_path: Path, capsys: Capture) -> None:
    root = write_toy_bundle(tmp_path / "nan", nan_from="unet")
    assert main(["tune", str(root), "--target", "cpu", *BRIEF]) == 1
    assert capsys.readouterr().err.startswith(
        "sdrt: no target could be measured, nothing was recorded: cpu: unet: "
    )
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_showing_the_progress_changes_nothing(toy: Bundle, capsys: Capture) -> None:
    plan = plan_for(toy, list(INTEL))
    with shown(invented(INTEL), plan) as measures:
        assert measured(plan, measures) == measured(plan, invented(INTEL))
    assert capsys.readouterr().out == ""


# --- the doctor


def test_the_doctor_explains(toy: Bundle, capsys: Capture) -> None:
    tuned_with(toy, AMD | {"openvino": 1.0}, {"openvino:bf16": 48.0})
    assert main(["doctor", str(toy.root)]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[-8:] == [
        "512×512, 50 steps",
        "target         threads  s per step     ±  s per image     PSNR  auto",
        "cpu            default        4.60  0.00       231.10  float32  admitted",
        "openvino       default        1.00  0.00        51.10  float32  takes it",
        "openvino:bf16  default        2.20  0.00       111.10    48 dB  no: it computes in bf16: "
        "name it to use it",
        "",
        "openvino:bf16 takes 2.2 times as long as openvino on this processor (sdrt tune): use "
        "openvino",
        "auto takes openvino",
    ]


def test_the_doctor_says_what_a_speed_stands_for(toy: Bundle, capsys: Capture) -> None:
    skip_unless_it_opens("openvino")
    tuned_with(toy, AMD, {"openvino:bf16": 34.0})
    assert main(["doctor", str(toy.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" (")[0] for line in lines if line.startswith("--speed ")] == [
        "--speed balanced: openvino, nothing left out",
        "--speed fast: openvino:bf16, nothing left out",
    ]


def test_the_doctor_says_that_nothing_was_measured(toy: Bundle, capsys: Capture) -> None:
    assert main(["doctor", str(toy.root)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"not tuned on this machine: `sdrt tune {toy.root}` measures which target is the fastest"
    )


def test_the_doctor_says_why_a_verdict_does_not_count(toy: Bundle, capsys: Capture) -> None:
    tuned_with(toy, INTEL)
    path = tuning_path(toy)
    path.write_text("{}")
    assert main(["doctor", str(toy.root)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{path} does not count: record_version: missing: run `sdrt tune` again"
    )


def test_a_slower_target_is_warned_of(toy: Bundle, capsys: Capture) -> None:
    skip_unless_it_opens("openvino:bf16")
    tuned_with(toy, {"openvino": 5.0, "openvino:bf16": 8.0})
    message = r"openvino:bf16 takes 1\.6 times as long as openvino on this processor"
    with pytest.warns(UserWarning, match=message):
        main(["verify", str(toy.root), "--target", "openvino:bf16"])
    with pytest.warns(UserWarning, match=message):
        Pipeline.open(toy.root, "openvino:bf16").close()


# --- what is refused, before anything is measured


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--target", "cdua"], 1, "unknown target 'cdua': did you mean 'cuda'?"),
        (["--target", "tensorrt"], 1, "tensorrt is not installed: pip install"),
        (["--num-threads", "0"], 1, "num_threads: got 0, expected a whole number from 1 to "),
        (["--num-threads", "1,x"], 2, "argument --num-threads: got 'x', expected a whole number"),
        (["--width", "65"], 1, "width: got 65, expected a multiple of 8"),
        (["--batch", "0"], 1, "batch: got 0, expected above 0"),
        (
            ["--width", "64,128", "--height", "64,128,192"],
            2,
            "got 2 widths and 3 heights, expected",
        ),
        (["--runs", "0"], 2, "--runs: got 0, expected 1 or more"),
        (["--json", "--forget"], 2, "argument --forget: not allowed with argument --json"),
    ],
)
def test_what_cannot_be_measured(
    arguments: list[str], code: int, message: str, toy: Bundle, own_cache: Path, capsys: Capture
) -> None:
    own_cache.mkdir()
    assert message in refusal(["tune", str(toy.root), *arguments], own_cache, capsys, code)


def test_a_cache_that_cannot_be_written(
    toy: Bundle, own_cache: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache.write_text("a file")
    line = refusal(["tune", str(toy.root)], toy.root, capsys)
    assert line.startswith(f"'{own_cache}/tuned/")
    assert line.endswith("cannot be written: Not a directory: set SDRT_CACHE to a folder that can")
    assert str(Pipeline.open(toy.root).target) == "cpu"
