from __future__ import annotations

import pytest

from sdrt_engines import Refusal, Target, TargetError, resolve_target
from sdrt_engines.target import Backend, Refuse

TEXTS = ["cpu", "openvino", "cuda", "tensorrt", "tensorrt:sm90", "tensorrt-rtx:sm86,sm89,sm120"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_target_is_written_as_it_is_read(text: str) -> None:
    assert str(Target.parse(text)) == text


def test_a_target_has_a_backend_and_architectures() -> None:
    assert Target.parse("tensorrt-rtx:sm86,sm89") == Target("tensorrt-rtx", ("sm86", "sm89"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cdua", "unknown target 'cdua': did you mean 'cuda'?"),
        ("CPU", "unknown target 'CPU': did you mean 'cpu'?"),
        ("", "unknown target '': known: auto, cpu, openvino, cuda, tensorrt, tensorrt-rtx"),
        ("auto:sm86", "unknown target 'auto'"),
        ("cpu:sm86", "target 'cpu:sm86': cpu is not built for an architecture: write 'cpu'"),
        ("tensorrt-rtx:sm90", "target 'tensorrt-rtx:sm90': tensorrt-rtx knows no 'sm90'"),
        ("tensorrt-rtx:", "tensorrt-rtx knows no '': known: sm75, sm80, sm86, sm89, sm120, sm121"),
        ("tensorrt-rtx:sm86,sm86", "'sm86' stands there twice"),
        ("tensorrt-rtx:sm86, sm89", "knows no ' sm89': did you mean 'sm89'?"),
    ],
)
def test_wrong_targets(text: str, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        Target.parse(text)
    assert message in str(caught.value)


def backends(*refusing: str) -> tuple[tuple[Backend, Refuse], ...]:
    def refuse(target: Target) -> str | None:
        return f"{target} has no driver" if target.backend in refusing else None

    return ("tensorrt", refuse), ("cuda", refuse), ("cpu", refuse)


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


def test_auto_lists_every_reason_when_none_opens() -> None:
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


@pytest.mark.parametrize("text", ["openvino", "cuda", "tensorrt", "tensorrt-rtx:sm89"])
def test_backends_to_come_refuse_with_the_way_out(text: str) -> None:
    with pytest.raises(TargetError, match="is not built yet in this version of sdrt: use 'cpu'"):
        resolve_target(text)
    refused = {refusal.target.backend for refusal in resolve_target("auto").refusals}
    assert Target.parse(text).backend in refused
