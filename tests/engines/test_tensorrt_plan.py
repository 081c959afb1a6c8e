from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sdrt_engines import EngineError, Signature, TargetError, resolve_target
from sdrt_engines.backend import PlanFile, Source
from sdrt_engines.tensorrt_plan import (
    LIBRARIES,
    TensorRT,
    engine_from_plan,
    fitting_plans,
    library_version,
    plan_refusal,
    tensorrt_refusal,
)

BACKENDS = tuple(LIBRARIES)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_missing_library_is_reported_with_its_command(
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


@pytest.mark.needs("tensorrt_rtx")
def test_cuda_python_is_reported_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
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


# --- the plans of a source

PLAN = PlanFile(
    path=Path("unet-1.plan"),
    profiles=(),
    precision="fp16",
    library="tensorrt_rtx",
    library_version="1.7.1",
    architectures=("sm89",),
    fault=None,
    damage=lambda: None,
)


def fitting(*plans: PlanFile) -> list[PlanFile]:
    source = Source(
        name="unet",
        signature=Signature((), ()),
        network=Path("unet/model.onnx"),
        precision="fp16",
        plans=plans,
        remedy="build it",
    )
    return fitting_plans(source, version="1.7.1", architecture="sm89")


def test_plans_that_fit_stay_in_their_order() -> None:
    other = replace(PLAN, path=Path("unet-2.plan"), architectures=())
    old = replace(PLAN, library_version="1.6")
    assert fitting(other, old, PLAN) == [other, PLAN]


def test_without_a_plan_the_remedy_is_given() -> None:
    with pytest.raises(
        EngineError, match=r"^unet: no plan .* runs here: there are no plans: build it$"
    ):
        fitting()


def test_the_reason_for_each_plan_is_given() -> None:
    with pytest.raises(EngineError) as caught:
        fitting(
            replace(PLAN, library_version="1.6", fault="it is of another network"),
            replace(PLAN, path=Path("unet-2.plan"), architectures=("sm120",)),
            replace(PLAN, path=Path("unet-3.plan"), damage=lambda: "its hash has changed"),
        )
    assert str(caught.value) == (
        "unet: no plan of this bundle runs here: unet-1.plan: it is of another network; "
        "unet-2.plan: it was built for sm120, this GPU is sm89; unet-3.plan: its hash has changed: "
        "build it"
    )


def test_a_file_that_does_not_fit_is_not_read() -> None:
    unread = replace(PLAN, library_version="1.6", damage=lambda: pytest.fail("it was read"))
    assert fitting(unread, PLAN) == [PLAN]
