from __future__ import annotations

import logging
from typing import Any

import pytest

from sdrt_engines import (
    BACKENDS,
    Backends,
    EngineError,
    Refusal,
    Resolution,
    Target,
    TargetError,
    TensorError,
    backend_of,
    resolve_target,
)
from support.backends import opening, refusing

TEXTS = [
    *("cpu", "openvino", "openvino:fp32", "openvino:bf16", "cpu:int8", "cuda"),
    *("tensorrt", "tensorrt:sm90", "tensorrt-rtx:sm86,sm89,sm120"),
]


@pytest.mark.parametrize("target", [None, b"cpu", 5])
def test_what_is_no_text_is_refused(target: Any) -> None:
    with pytest.raises(TargetError, match=r"^target: got .*, known: auto, cpu"):
        resolve_target(target)


@pytest.mark.parametrize("text", TEXTS)
def test_a_target_is_written_as_it_is_read(text: str) -> None:
    assert str(Target.parse(text)) == text


def test_a_target_has_a_backend_and_architectures() -> None:
    assert Target.parse("tensorrt-rtx:sm86,sm89") == Target("tensorrt-rtx", ("sm86", "sm89"))


def test_a_target_may_have_a_precision() -> None:
    assert Target.parse("openvino:bf16") == Target("openvino", precision="bf16")
    for target, precision in (
        (Target.parse("openvino:bf16"), "bf16"),
        (Target("openvino"), "fp32"),
        (Target("cuda"), None),  # its files decide
    ):
        assert backend_of(target).chosen_precision(target) == precision


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cdua", "unknown target 'cdua': did you mean 'cuda'?"),
        ("CPU", "unknown target 'CPU': did you mean 'cpu'?"),
        ("gpu", "unknown target 'gpu': did you mean 'cuda'?"),
        ("GPU:0", "unknown target 'GPU': did you mean 'cuda'?"),
        ("nvidia", "did you mean 'cuda'?"),
        ("trt", "did you mean 'tensorrt'?"),
        ("rtx", "did you mean 'tensorrt-rtx'?"),
        ("ov", "did you mean 'openvino'?"),
        ("onnxruntime", "did you mean 'cpu' or 'cuda'?"),
        ("ort", "did you mean 'cpu' or 'cuda'?"),
        ("npu", "unknown target 'npu': known: auto, cpu, cuda, openvino, tensorrt, tensorrt-rtx"),
        ("", "unknown target '': known: auto, cpu, cuda, openvino, tensorrt, tensorrt-rtx"),
        ("auto:sm86", "unknown target 'auto'"),
        ("cpu:sm86", "target 'cpu:sm86': cpu does not know 'sm86': known: fp32, int8"),
        ("cuda:sm86", "target 'cuda:sm86': cuda takes nothing after a colon: write 'cuda'"),
        ("tensorrt-rtx:sm90", "target 'tensorrt-rtx:sm90': tensorrt-rtx does not know 'sm90'"),
        (
            "tensorrt-rtx:",
            "tensorrt-rtx does not know '': known: sm75, sm80, sm86, sm89, sm120, sm121",
        ),
        (
            "openvino:fp16",
            "target 'openvino:fp16': openvino does not know 'fp16': did you mean 'bf16'",
        ),
        ("openvino:", "openvino does not know '': known: fp32, bf16, int8"),
        ("openvino:fp32,bf16", "openvino does not know 'fp32,bf16'"),
        ("tensorrt-rtx:sm86,sm86", "'sm86' is listed twice"),
        ("tensorrt-rtx:sm86, sm89", "does not know ' sm89': did you mean 'sm89'?"),
    ],
)
def test_wrong_targets(text: str, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        Target.parse(text)
    assert message in str(caught.value)


OUT_OF_MEMORY = EngineError("unet: out of memory")
NO_OUTPUT = EngineError("unet: device lost")


def backends(*not_here: str) -> Backends:
    return [
        refusing(name, f"{name} has no driver") if name in not_here else opening(name)
        for name in ("tensorrt", "cuda", "cpu")
    ]


def test_auto_is_the_first_that_opens() -> None:
    resolution = resolve_target("auto", backends())
    assert resolution.target == Target("tensorrt")
    assert resolution.refusals == ()


def test_auto_keeps_every_refusal() -> None:
    resolution = resolve_target("auto", backends("tensorrt", "cuda"))
    assert resolution.target == Target("cpu")
    assert resolution.refusals == (
        Refusal(Target("tensorrt"), "tensorrt has no driver"),
        Refusal(Target("cuda"), "cuda has no driver"),
    )


def test_auto_lists_every_reason_if_no_target_opens() -> None:
    with pytest.raises(TargetError) as caught:
        resolve_target("auto", backends("tensorrt", "cuda", "cpu"))
    for name in ("tensorrt", "cuda", "cpu"):
        assert f"{name}: {name} has no driver" in str(caught.value)


@pytest.mark.parametrize("target", ["cuda", Target("cuda")])
def test_an_explicit_target_opens_or_is_an_error(target: str | Target) -> None:
    assert resolve_target(target, backends("tensorrt")).target == Target("cuda")
    with pytest.raises(TargetError, match="cuda has no driver"):
        resolve_target(target, backends("cuda"))


def test_the_cpu_opens_here() -> None:
    assert resolve_target("cpu").target == Target("cpu")


def test_auto_tries_the_backends_in_this_order() -> None:
    names = [backend.name for backend in BACKENDS]
    assert names == ["tensorrt", "tensorrt-rtx", "cuda", "cpu", "openvino"]


# --- the number of threads


@pytest.mark.parametrize("target", ["auto", "cpu", "cuda"])
def test_a_number_of_threads_that_cannot_be_is_refused_first(target: str) -> None:
    with pytest.raises(EngineError, match="num_threads: got 0, expected a whole number from 1 to "):
        resolve_target(target, backends("tensorrt", "cuda", "cpu"), num_threads=0)


@pytest.mark.parametrize("target", ["cuda", Target("tensorrt"), "tensorrt:sm90"])
def test_a_named_target_without_threads_of_the_cpu_takes_no_number(target: str | Target) -> None:
    reason = f"num_threads: got 2, but target '{target}' does not compute on threads of the CPU"
    with pytest.raises(TargetError, match=f"^{reason}: leave it out$"):
        resolve_target(target, backends("tensorrt", "cuda"), num_threads=2)
    assert resolve_target(target, backends()).num_threads is None


def test_auto_keeps_the_number_for_the_targets_on_the_cpu() -> None:
    first = resolve_target("auto", backends("cuda"), num_threads=2)
    assert (first.target, first.num_threads) == (Target("tensorrt"), 2)
    second = first.after(OUT_OF_MEMORY)
    assert (second.target, second.num_threads) == (Target("cpu"), 2)


def test_the_backends_on_the_cpu() -> None:
    assert [backend.name for backend in BACKENDS if backend.on_cpu] == ["cpu", "openvino"]


# --- a target fails while running


def test_auto_continues_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    first = resolve_target("auto", backends("cuda"))
    with caplog.at_level(logging.INFO, "sdrt"):
        second = first.after(OUT_OF_MEMORY)
    assert (str(first), second.target) == ("tensorrt", Target("cpu"))
    assert second.refusals == (Refusal(Target("cuda"), "cuda has no driver"),)
    assert second.failures == (Refusal(Target("tensorrt"), "unet: out of memory"),)
    assert str(second) == "cpu (after tensorrt: unet: out of memory)"
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "target cuda does not open: cuda has no driver"),
        ("WARNING", "target tensorrt failed, continuing with cpu: unet: out of memory"),
    ]


def test_every_failure_is_kept() -> None:
    last = resolve_target("auto", backends()).after(OUT_OF_MEMORY).after(NO_OUTPUT)
    assert str(last) == ("cpu (after tensorrt: unet: out of memory; cuda: unet: device lost)")


@pytest.mark.parametrize(
    ("resolution", "error"),
    [
        pytest.param(resolve_target("cuda", backends()), OUT_OF_MEMORY, id="named"),
        pytest.param(
            resolve_target("auto", backends("tensorrt", "cuda")), OUT_OF_MEMORY, id="the last"
        ),
        pytest.param(
            resolve_target("auto", backends("cuda", "cpu")), OUT_OF_MEMORY, id="others refuse"
        ),
        pytest.param(resolve_target("auto", backends()), TensorError("no input 'x'"), id="feeds"),
    ],
)
def test_what_nothing_can_take_the_place_of_is_raised(
    resolution: Resolution, error: EngineError
) -> None:
    with pytest.raises(EngineError) as caught:
        resolution.after(error)
    assert caught.value is error
