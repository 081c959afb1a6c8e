"""`sdrt bench` as a user types it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdrt.command_line.main import main
from support.backends import skip_unless_it_opens
from support.toy_bundle import write_toy_bundle

SMALL = ["--target", "cpu", "--steps", "2", "--width", "64", "--height", "64"]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the user stands, with a bundle `toy`, a folder and a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "folder.png").mkdir()
    return write_toy_bundle(tmp_path / "toy")


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a file of JSON lines, by the names of their figures."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len({row["name"] for row in rows}) == len(rows)
    return {row["name"]: row for row in rows}


@pytest.mark.needs("matplotlib")
def test_the_demo_model_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    lines, plot = tmp_path / "rows.jsonl", tmp_path / "bench.png"
    options = [*SMALL[:4], "--runs", "1", "--batches", "1,2", "--json", str(lines)]
    assert main(["bench", "demo", *options, "--plot", str(plot)]) == 0
    out = capsys.readouterr().out
    assert "bundle   demo, " in out
    assert "image    128×128, 2 steps, guidance scale 2, DDIMScheduler" in out
    rows = rows_of(lines)
    table = out.partition("\n\n")[2].splitlines()
    names = [line.partition("  ")[0].replace(" ", "_") for line in table[1:-1]]
    assert names == [name.replace(" ", "_") for name in rows]
    assert {row["target"] for row in rows.values()} == {"cpu"}
    _check_figures(rows)
    with Image.open(plot) as image:
        assert image.size == (1512, 1008)


def _check_figures(rows: dict[str, dict[str, Any]]) -> None:
    """The rows of one run hold figures that fit together."""
    p50 = {name: row["p50"] for name, row in rows.items()}
    stages = [name for name, row in rows.items() if row.get("notes") == {"part_of": "image"}]
    assert {"loading", "text_encoder", "denoiser", "vae_decoder", "host"} == set(stages)
    assert p50["image"] == pytest.approx(sum(p50[name] for name in stages), abs=1e-5)
    assert p50["denoising steps"] == pytest.approx(1 / p50["denoising step"], rel=0.01)
    starts = [p50[f"cold start to {event}"] for event in ("ready", "first step", "first image")]
    assert 0 < starts[0] < starts[1] < starts[2]
    assert p50["denoising step"] < p50["image"]
    assert 30 < p50["peak memory"] < 2000
    assert p50["batch 1"] > 0
    assert p50["batch 2"] > 0
    assert rows["image"]["settings"]["num_inference_steps"] == 2
    assert rows["image"]["versions"]["onnxruntime"]


def test_rows_are_added_to_those_that_are_there(toy: Path) -> None:
    path = Path("rows.jsonl")
    options = [*SMALL, "--runs", "1", "--batches", "1", "--cold-starts", "0", "--json", str(path)]
    assert main(["bench", "toy", *options]) == 0
    num_rows = len(path.read_text().splitlines())
    assert main(["bench", "toy", *options, "--num-threads", "1"]) == 0
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 2 * num_rows
    assert [row["settings"]["num_threads"] for row in rows[::num_rows]] == [None, 1]


def test_two_speeds_are_compared(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*SMALL[:2], *SMALL[4:], "--scheduler", "euler", "--steps", "20", "--runs", "2"]
    speeds = ["--guidance-scale", "2", "--speed", "balanced", "--compare", "exact"]
    assert main(["bench", "toy", *options, *speeds, "--json", "r"]) == 0
    rows = rows_of(Path("r"))
    assert {row["settings"]["speed"] for row in rows.values()} == {"balanced"}
    assert (rows["relative time"]["unit"], rows["relative time"]["notes"]) == ("×", {"of": "exact"})
    assert 0 < rows["SSIM"]["p90"] <= rows["SSIM"]["p50"] <= 1
    rival = rows["PSNR of fewer steps"]
    assert rival["p50"] >= rows["PSNR"]["p50"]
    (line,) = (row for row in capsys.readouterr().out.splitlines() if "fewer steps: " in row)
    assert line.startswith(f"fewer steps: {rival['notes']['steps']} are as near, with ")


def test_a_target_of_another_name_is_measured(toy: Path) -> None:
    skip_unless_it_opens("openvino")
    options = ["--target", "openvino", *SMALL[2:], "--runs", "1", "--batches", "2", "--json", "r"]
    assert main(["bench", "toy", *options]) == 0
    rows = rows_of(Path("r"))
    assert {row["target"] for row in rows.values()} == {"openvino"}
    assert rows["batch 2"]["versions"].keys() == {"sdrt", "openvino"}


@pytest.mark.parametrize(
    ("options", "verdict", "names"),
    [
        (["single-stream", "--queries", "3"], "INVALID: the 90th percentile", ["latency"]),
        (["offline", "--queries", "3", "--batch", "2"], "VALID: ", ["offline", "batch of 2"]),
        (
            ["server", "--queries", "3", "--rate", "50", "--latency-bound", "30"],
            "INVALID: the 99th percentile",
            ["latency", "completed"],
        ),
    ],
)
def test_a_scenario_says_its_verdict(
    options: list[str],
    verdict: str,
    names: list[str],
    toy: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "toy", *SMALL, "--json", "rows", "--scenario", *options]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "verdict" in line)
    assert line.split(maxsplit=1)[1].startswith(verdict)
    rows = rows_of(Path("rows"))
    assert list(rows) == names
    for row in rows.values():
        assert row["notes"]["scenario"] == options[0]
        assert row["notes"]["valid"] == verdict.startswith("VALID")
        assert row["notes"]["verdict"].startswith(verdict)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--runs", "0"], "argument --runs: got 0, expected a whole number of at least 1"),
        (["--runs", "x"], "argument --runs: got 'x', expected a whole number"),
        (["--warmup", "-1"], "argument --warmup: got -1, expected a whole number of at least 0"),
        (["--batches", "1,0"], "argument --batches: got 0, expected a whole number of at least 1"),
        (["--batches", "1,,2"], "argument --batches: got '', expected a whole number"),
        (["--cold-starts", "-1"], "argument --cold-starts: got -1, expected a whole number of at"),
        (["--scenario", "serve"], "argument --scenario: got 'serve', did you mean 'server'?"),
        (["--scenario", "server"], "--scenario server needs --rate: give the queries per second"),
        (
            ["--scenario", "server", "--rate", "0"],
            "argument --rate: got 0.0, expected a number greater than 0",
        ),
        (
            ["--scenario", "server", "--rate", "nan"],
            "argument --rate: got nan, expected a number greater than 0",
        ),
        (
            ["--scenario", "server", "--rate", "1", "--latency-bound", "inf"],
            "argument --latency-bound: got inf, expected a number greater than 0",
        ),
        (
            ["--scenario", "single-stream", "--duration", "-1"],
            "argument --duration: got -1.0, expected a number of at least 0",
        ),
        (
            ["--scenario", "single-stream", "--queries", "0"],
            "argument --queries: got 0, expected a whole number of at least 1",
        ),
        (["--rate", "1"], "--rate is for --scenario server: leave it out"),
        (["--batch", "2"], "--batch is for --scenario offline: leave it out"),
        (
            ["--queries", "9"],
            "--queries is for --scenario single-stream or offline or server: leave it out",
        ),
        (
            ["--scenario", "offline", "--runs", "3"],
            "--runs is for runs without --scenario: leave it out",
        ),
        (
            ["--scenario", "offline", "--plot", "a.png"],
            "--plot: --scenario offline gives one number: leave --plot out",
        ),
        (
            ["--compare", "exact"],
            "--compare exact: --speed is the same, so there is nothing to compare: give another",
        ),
        (["--speed", "fast", "--compare", "fast"], "--compare fast: --speed is the same, so "),
        (
            ["--speed", "fast", "--compare", "exact", "--scenario", "offline"],
            "--compare and --scenario were both given: leave one of them out",
        ),
        (
            ["--speed", "fast", "--compare", "exact", "--batches", "2"],
            "--batches is for runs without --scenario and --compare: leave it out",
        ),
        (
            ["--speed", "fast", "--compare", "exact", "--plot", "a.png"],
            "--plot: --compare has no plot: leave --plot out",
        ),
        (["--speed", "quick"], "argument --speed: got 'quick', known: exact, balanced, fast"),
    ],
)
def test_wrong_usage(
    options: list[str], message: str, toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "toy", *SMALL, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"sdrt: {message}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--json", "gone/rows"], "gone/rows: there is no folder 'gone': create it first"),
        (["--json", "folder.png"], "folder.png: is a folder, expected the name of a file to write"),
        (["--json", "/proc/rows"], "/proc/rows: cannot be written: "),
        (["--plot", "plot.pdf"], "plot.pdf: plots are PNGs: name it *.png"),
        (["--plot", "folder.png"], "folder.png: is a folder, expected the name of a PNG to write"),
        (["--steps", "0"], "num_inference_steps: got 0, expected a whole number from 1 to 1000"),
        (["--width", "65"], "width: got 65, expected a multiple of 8, such as 64 or 72"),
        (["--scheduler", "oiler"], "scheduler"),
        (["--batches", "2000"], "num_images_per_prompt: got 2000, expected a whole number from 1"),
        (["--target", "gpu"], "unknown target 'gpu': "),
        (["--num-threads", "0"], "num_threads: got 0"),
    ],
)
def test_what_cannot_be_measured_is_refused_first(
    options: list[str], message: str, toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (toy / "unet/model.onnx").unlink()  # whatever ran it would say so
    assert main(["bench", "toy", *SMALL, *options]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(Path().glob("rows*"))


def test_a_plot_without_matplotlib_is_refused_first(
    toy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (toy / "unet/model.onnx").unlink()
    assert main(["bench", "toy", *SMALL, "--plot", "bench.png"]) == 1
    assert capsys.readouterr() == (
        "",
        "sdrt: --plot needs matplotlib, which is not installed: pip install 'sdrt[plot]'\n",
    )


def test_a_missing_bundle_is_refused(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "gone"]) == 1
    assert capsys.readouterr().err.startswith("sdrt: no bundle at 'gone': ")
