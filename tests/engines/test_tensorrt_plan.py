from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sdrt_engines import EngineError, Signature, TargetError, resolve_target
from sdrt_engines.tensorrt_plan import (
    LIBRARIES,
    TensorRT,
    engine_from_plan,
    library_version,
    plan_refusal,
    tensorrt_refusal,
)

BACKENDS = tuple(LIBRARIES)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_missing_library_is_told_with_its_command(
    backend: TensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, LIBRARIES[backend], None)
    message = f"{LIBRARIES[backend]} is not installed: pip install 'sdrt\\[{backend}\\]'"
    with pytest.raises(EngineError, match=message):
        library_version(backend)
    with pytest.raises(TargetError, match=message):
        resolve_target(backend)
    with pytest.raises(EngineError, match=message):
        engine_from_plan(
            Path("x.plan"), name="x", backend=backend, signature=Signature((), ()), profiles=()
        )


def test_cuda_python_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    reason = tensorrt_refusal("tensorrt-rtx")
    assert reason is not None
    assert "cuda-python cannot be imported" in reason
    assert reason.endswith("pip install cuda-python")


@pytest.mark.parametrize(
    ("installed", "built_for", "architecture", "reason"),
    [
        ("1.7.1", ("sm89",), "sm89", None),
        ("1.7.1", ("sm86", "sm89"), "sm86", None),
        ("1.7.1", (), "sm120", None),
        ("1.7.1", (), "sm75", "it was built for sm80 and later, this GPU is sm75"),
        ("1.7.1", ("sm86", "sm89"), "sm120", "it was built for sm86, sm89, this GPU is sm120"),
        ("1.8.0", ("sm89",), "sm89", "it was built with tensorrt_rtx 1.7.1, 1.8.0 is installed"),
    ],
)
def test_plans_of_other_versions_and_architectures(
    installed: str, built_for: tuple[str, ...], architecture: str, reason: str | None
) -> None:
    assert reason == plan_refusal(
        library="tensorrt_rtx",
        built_with="1.7.1",
        installed=installed,
        built_for=built_for,
        architecture=architecture,
    )
