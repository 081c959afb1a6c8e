"""Packages that are missing, broken, or something else of a library's name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sdrt_engines import EngineError
from sdrt_engines.importing import importing
from support.command import run_python

# A lean install: only what a test writes is openvino.
WITHOUT = """
import sys
from importlib.machinery import PathFinder
class Hidden(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == 'openvino':
            return PathFinder.find_spec(name, [{folder!r}])
sys.meta_path.insert(0, Hidden)
"""
BROKEN = {
    "def": "SyntaxError: ",
    "raise AttributeError('no such thing')": "AttributeError: no such thing",
    "import sys; sys.exit('a script')": "SystemExit: a script",
    "class Model: ...": "cannot import name 'Core' from ",
}


@pytest.mark.parametrize("code", BROKEN)
def test_another_module_of_its_name_is_reported_with_its_place(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a_library.py"
    path.write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "a_library", raising=False)
    with pytest.raises(EngineError) as caught, importing("a_library", "pip install it"):
        from a_library import Core  # type: ignore[import-not-found] # noqa: F401
    assert str(caught.value).startswith(f"a_library cannot be imported ({BROKEN[code]}")
    way_out = f"): rename '{path}' if that is not the library, else pip install it"
    assert str(caught.value).endswith(way_out)


def test_a_lack_of_memory_has_another_remedy() -> None:
    with pytest.raises(EngineError) as caught, importing("a_library", "pip install it"):
        raise ImportError("a_library.so: failed to map segment from shared object")
    assert str(caught.value).endswith("): there is not enough memory: close other programs")


def test_a_folder_of_its_name_is_no_library(tmp_path: Path) -> None:
    """As for models of OpenVINO: Python takes it for a package without files."""
    (tmp_path / "openvino").mkdir()
    program = WITHOUT.format(folder=str(tmp_path)) + "import sdrt\nsdrt.Pipeline.open('demo')\n"
    program += "from sdrt_engines import openvino_refusal; print(openvino_refusal())"
    done = run_python(program, tmp_path)
    assert done.stderr == ""
    assert done.stdout.startswith("openvino cannot be imported (cannot import name 'Core'")
    assert f"rename '{tmp_path / 'openvino'}' if that is not the library" in done.stdout


def test_auto_passes_over_a_broken_library_and_a_named_target_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise AttributeError('no such thing')")
    program = """
from sdrt.command_line.main import main
from sdrt_engines import resolve_target
resolution = resolve_target("auto")
print(resolution.target, *resolution.refusals, sep="\\n")
assert main(["run", "demo", "a", "--target", "cpu"]) == 1
assert main(["verify", "demo", "--target", "openvino"]) == 1
"""
    done = run_python(program, tmp_path)
    target, *refusals = done.stdout.splitlines()
    reason = "onnxruntime cannot be imported (AttributeError: no such thing): rename "
    assert target == "openvino"
    assert reason in refusals[-1]
    run, verify = done.stderr.splitlines()
    assert run == verify
    assert run.startswith(f"sdrt: {reason}")


def test_a_signal_during_an_import_is_no_broken_library(tmp_path: Path) -> None:
    (tmp_path / "openvino.py").write_text("import signal; signal.raise_signal(signal.SIGTERM)")
    program = """
import signal, sys
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
import sdrt_engines
sdrt_engines.openvino_refusal()
"""
    assert run_python(program, tmp_path).returncode == 7
