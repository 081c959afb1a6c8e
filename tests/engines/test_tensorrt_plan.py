from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sdrt_engines import EngineError, Signature, TargetError, resolve_target
from sdrt_engines.backend import PlanFile, Source
from sdrt_engines.nvidia_driver import Gpu
from sdrt_engines.open_plan import OpenPlan
from sdrt_engines.tensorrt_library import ErrorLog, tensorrt_log
from sdrt_engines.tensorrt_plan import (
    LIBRARIES,
    RTX_ARCHITECTURES,
    TensorRT,
    engine_from_plan,
    engine_from_plans,
    fitting_plans,
    gpu_refusal,
    library_version,
    plan_refusal,
    tensorrt_refusal,
)
from support.host_gpu import HostGpu

BACKENDS = tuple(LIBRARIES)
DEFAULT = "sm80, sm86, sm89, sm120, sm121"  # that TensorRT-RTX builds for


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


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("error", ["ImportError", "OSError", "KeyboardInterrupt"])
def test_a_library_that_cannot_be_imported(
    backend: TensorRT, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = LIBRARIES[backend]
    (tmp_path / f"{module}.py").write_text(f"raise {error}('libnvinfer.so.11 is missing')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, module, raising=False)
    message = (
        f"^{module} cannot be imported .libnvinfer.so.11 is missing.: rename '.*{module}.py' if "
        "that is not the library, else pip install 'sdrt"
    )
    expected = KeyboardInterrupt if error == "KeyboardInterrupt" else EngineError
    with pytest.raises(expected, match="^libnv" if error == "KeyboardInterrupt" else message):
        library_version(backend)


@pytest.mark.needs("tensorrt_rtx")
def test_cuda_python_is_reported_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    reason = tensorrt_refusal("tensorrt-rtx")
    assert reason is not None
    assert "cuda cannot be imported" in reason
    assert reason.endswith("pip install cuda-python")


def on_a(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes it the machine's first GPU, for the test."""
    cards = (Gpu(f"NVIDIA {architecture}", architecture, 80 << 30),)
    monkeypatch.setattr("sdrt_engines.tensorrt_plan.gpus", lambda: cards)


@pytest.mark.parametrize("architecture", ["sm70", "sm87", "sm90", "sm100", "sm103", "sm110"])
def test_tensorrt_rtx_refuses_gpus_that_it_does_not_support(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything else: neither a package nor a plan would help. `tensorrt` may run there."""
    on_a(architecture, monkeypatch)
    reason = (
        f"TensorRT-RTX does not support this GPU (NVIDIA {architecture}, {architecture}), expected "
        "one of sm75, sm80, sm86, sm89, sm120, sm121: take the target cuda or tensorrt"
    )
    assert tensorrt_refusal("tensorrt-rtx") == reason
    assert gpu_refusal("tensorrt") is None
    with pytest.raises(TargetError, match=re.escape(reason)):
        resolve_target("tensorrt-rtx")
    auto = resolve_target("auto")
    assert reason in [refusal.reason for refusal in auto.refusals]
    unread = replace(PLAN, architectures=(), damage=lambda: pytest.fail("it was read"))
    with pytest.raises(EngineError, match=re.escape(f"unet: {reason}")):
        engine_from_plans(source_of(unread), "tensorrt-rtx")


@pytest.mark.parametrize("architecture", RTX_ARCHITECTURES)
def test_tensorrt_rtx_accepts_the_gpus_of_its_own_list(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a(architecture, monkeypatch)
    assert gpu_refusal("tensorrt-rtx") is None


@pytest.mark.needs("tensorrt_rtx")
def test_the_list_is_that_of_the_library() -> None:
    import tensorrt_rtx

    known = tensorrt_rtx.ComputeCapability.__members__
    assert [name.lower() for name in known if name.startswith("SM")] == [*RTX_ARCHITECTURES]


def test_a_log_has_the_first_errors_on_one_line() -> None:
    log = ErrorLog()
    for message in ("the\n cause", "x" * 999, "a consequence"):
        log.add(message)
    assert log.text == f"the cause; {'x' * 300}"
    log.clear()
    assert log.text == ""


@pytest.mark.needs("tensorrt_rtx")
def test_the_log_of_tensorrt_is_in_the_error() -> None:
    """The real library, on a simulated GPU: it returns None, and writes the reason to its log."""
    import tensorrt_rtx

    gpu, log = HostGpu(), tensorrt_log("tensorrt-rtx")
    assert tensorrt_log("tensorrt-rtx") is log
    with gpu.device.turn, pytest.raises(EngineError) as caught:
        OpenPlan(
            tensorrt_rtx, log, b"no plan" * 99, name="net", device=gpu.device, captures_itself=True
        )
    message = str(caught.value)
    assert message.startswith("net: TensorRT cannot create the engine from this plan: ")
    assert "Serialization assertion" in message
    assert message.endswith(": build its plans again with `sdrt build`, or report this")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("installed", "built_for", "architecture", "reason"),
    [
        ("1.7.1", ("sm89",), "sm89", None),
        ("1.7.1", ("sm86", "sm89"), "sm86", None),
        ("1.7.1", (), "sm120", None),
        ("1.7.1", (), "sm75", f"it was built for {DEFAULT}, this GPU is sm75"),
        ("1.7.1", (), "sm90", f"it was built for {DEFAULT}, this GPU is sm90"),
        ("1.7.1", (), "sm87", f"it was built for {DEFAULT}, this GPU is sm87"),
        ("1.7.1", (), "sm100", f"it was built for {DEFAULT}, this GPU is sm100"),
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


def source_of(*plans: PlanFile) -> Source:
    return Source(
        name="unet",
        signature=Signature((), ()),
        network=Path("unet/model.onnx"),
        precision="fp16",
        plans=plans,
        remedy="build it",
    )


def fitting(*plans: PlanFile) -> list[PlanFile]:
    return fitting_plans(source_of(*plans), version="1.7.1", architecture="sm89")


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
