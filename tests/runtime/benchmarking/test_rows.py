from __future__ import annotations

import json
import platform
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import pytest

import sdrt
from sdrt import Bundle, Request
from sdrt.benchmarking.figures import Figure
from sdrt.benchmarking.rows import append_row, context_of, machine, versions_of
from sdrt.benchmarking.workload import Workload
from sdrt.errors import SdrtError
from support.toy_bundle import write_toy_bundle


def test_a_row_says_what_its_figure_depends_on(tmp_path: Path) -> None:
    root = write_toy_bundle(tmp_path / "toy")
    request = Request("a star", num_inference_steps=2, seed=1, width=64, height=72)
    workload = Workload(str(root), "auto", request, num_threads=2)
    row = context_of(workload, Bundle.open(root)).row(Figure("image", "s", (0.5,), "cpu"))
    assert (row["bench"], row["name"], row["target"]) == ("sdrt bench", "image", "cpu")
    assert row["settings"] == {
        "prompt": "a star",
        "width": 64,
        "height": 72,
        "num_inference_steps": 2,
        "guidance_scale": None,
        "scheduler": "DDIMScheduler",
        "seed": 1,
        "speed": None,
        "num_threads": 2,
        "warmup": 1,
    }
    manifest = json.loads((root / "sdrt.json").read_text())
    assert row["bundle"] == {"name": str(root), "digest": manifest["digest"]}
    assert row["machine"] == machine()
    assert datetime.fromisoformat(row["date"]).tzinfo is not None
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize("target", ["cpu", "cpu (after openvino: unet: out of memory)"])
def test_versions_are_those_behind_the_target_that_ran(target: str) -> None:
    assert versions_of(target) == {
        "sdrt": sdrt.__version__,
        "onnxruntime": version("onnxruntime"),
    }


def test_the_machine() -> None:
    found = machine()
    assert found["processor"]
    assert found["cores"] >= 1
    assert found["python"] == platform.python_version()
    assert found.get("gpus") != []


def test_rows_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"older": 1}\n')
    append_row(path, {"name": "Zürich"})
    append_row(path, {"name": "image"})
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"older": 1},
        {"name": "Zürich"},
        {"name": "image"},
    ]


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SdrtError, match="Is a directory: choose another place with --json"):
        append_row(tmp_path, {})
