"""`sdrt doctor` on this machine, and on others that files or packages can simulate."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from sdrt.command_line.doctor import diagnosis
from sdrt.command_line.main import main
from sdrt_engines import openvino_refusal, resolve_target
from sdrt_engines.nvidia_driver import Gpu
from support.command import run_python, run_sdrt

TARGETS = ["tensorrt", "tensorrt-rtx", "cuda"]
TARGETS += ["cpu", "cpu:int8", "openvino", "openvino:bf16", "openvino:int8"]


def test_every_target_has_its_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split(maxsplit=2) for line in map(str.rstrip, lines) if line}
    assert [name for name in rows if name in TARGETS] == TARGETS
    assert rows["cpu"] == ["cpu", "opens", f"onnxruntime {version('onnxruntime')}"]
    assert rows["tensorrt"][1] == "no"
    assert rows["auto"][1] == str(resolve_target("auto").target)


def test_programs_read_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [state["target"] for state in found["targets"]] == TARGETS
    for state in found["targets"]:
        assert state["opens"] == (state["reason"] is None)
    states = {state["target"]: state for state in found["targets"]}
    assert states["openvino"]["reason"] == openvino_refusal()
    assert states["cpu"]["packages"]["onnxruntime"] == version("onnxruntime")
    assert found["cpu"]["cores"] >= 1
    assert found["cpu"]["name"]
    assert found["memory"]["size"] > 0


def test_the_memory_of_an_image_is_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "demo"]) == 0
    assert re.search(r"^an image takes about \d+ MiB on cpu", capsys.readouterr().out, re.MULTILINE)


def test_a_gpu_that_tensorrt_rtx_does_not_support_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = (Gpu("NVIDIA H100", "sm90", 80 << 30),)
    monkeypatch.setattr("sdrt_engines.tensorrt_plan.gpus", lambda: cards)
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (state,) = (state for state in found["targets"] if state["target"] == "tensorrt-rtx")
    assert state["reason"].startswith(
        "TensorRT-RTX does not support this GPU (NVIDIA H100, sm90), expected one of sm75, sm80"
    )
    assert state["reason"].endswith(": take the target cuda or tensorrt")


def test_the_operating_system_and_openvino_agree_on_bfloat16() -> None:
    if reason := openvino_refusal():
        pytest.skip(reason)
    found = diagnosis()
    states = {state.target: state for state in found.targets}
    if found.cpu.bfloat16 is not None:
        assert states["openvino:bf16"].opens == found.cpu.bfloat16


def write_package(folder: Path, name: str, code: str | None = None) -> None:
    """A package as installed by pip; `code` is its module."""
    info = folder / f"{name.replace('-', '_')}-9.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {name}\nVersion: 9.0.0\n")
    if code is not None:
        (folder / f"{name}.py").write_text(code)


def test_both_onnxruntimes_are_seen_and_the_way_out_is_printed(tmp_path: Path) -> None:
    write_package(tmp_path, "onnxruntime-gpu")
    outcome = run_python("from sdrt.command_line.main import main; main(['doctor'])", tmp_path)
    note = outcome.stdout.splitlines()[-1]
    assert note == (
        f"onnxruntime {version('onnxruntime')} and onnxruntime-gpu 9.0.0 are both installed and "
        "write the same files: those installed last count. If the target cuda does not open "
        "despite a GPU: pip install --force-reinstall --no-deps onnxruntime-gpu"
    )


def test_a_broken_library_is_one_finding_of_many(tmp_path: Path) -> None:
    write_package(tmp_path, "openvino", "raise ValueError('wrong\\nmachine')")
    outcome = run_python(
        "from sdrt.command_line.main import main; main(['doctor', '--json'])", tmp_path
    )
    states = {state["target"]: state for state in json.loads(outcome.stdout)["targets"]}
    assert states["openvino"]["reason"].startswith(
        "openvino cannot be imported (ValueError: wrong machine): rename "
    )
    assert states["openvino"]["packages"] == {"openvino": "9.0.0"}
    assert states["cpu"]["opens"]


def test_the_doctor_is_quick_and_loads_no_network(tmp_path: Path) -> None:
    loaded = run_sdrt("doctor", folder=tmp_path).loaded
    assert not loaded & {"torch", "onnx", "PIL", "tokenizers", "sdrt_export"}
