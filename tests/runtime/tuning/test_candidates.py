"""The default candidates."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdrt.bundle.folder import Bundle
from sdrt.tuning import candidates
from sdrt.tuning.candidates import Candidate, candidates_of, default_num_threads
from sdrt_engines import Target, TargetError
from support.backends import opening, refusing
from support.toy_bundle import write_toy_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_toy_bundle(tmp_path / "bundle"))


def test_all_that_open_are_tried_also_what_auto_never_takes(bundle: Bundle) -> None:
    backends = [opening("cuda"), refusing("cpu", "broken"), opening("openvino")]
    found = candidates_of(bundle, (), (None, 4), backends)
    assert list(map(str, found)) == ["cuda", "openvino", "openvino:bf16"]
    assert found[Target("cuda")] == (Candidate(Target("cuda")),)
    assert list(map(str, found[Target("openvino")])) == ["openvino", "openvino with 4 threads"]


def test_if_no_target_opens_every_reason_is_listed(bundle: Bundle) -> None:
    backends = [refusing("cuda", "no driver"), refusing("cpu", "broken")]
    with pytest.raises(TargetError, match="cuda: no driver; cpu: broken"):
        candidates_of(bundle, (), (None,), backends)


def test_a_named_target_that_does_not_open_is_an_error(bundle: Bundle) -> None:
    backends = [refusing("cuda", "no driver"), opening("cpu")]
    with pytest.raises(TargetError, match="no driver"):
        candidates_of(bundle, [Target("cpu"), Target("cuda")], (None,), backends)


def test_two_names_of_one_target_are_one(bundle: Bundle) -> None:
    named = [Target.parse("openvino:fp32"), Target("openvino")]
    assert list(candidates_of(bundle, named, (None,), [opening("openvino")])) == [named[1]]


@pytest.mark.parametrize(
    ("logical", "physical", "expected"),
    [(8, 4, (None, 8)), (4, 4, (None,)), (4, None, (None, 4)), (4, 16, (None, 4))],
)
def test_the_library_uses_physical_cores_so_the_logical_ones_are_tried(
    logical: int,
    physical: int | None,
    expected: tuple[int | None, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last case is a container with a share of its cores."""
    monkeypatch.setattr(candidates, "usable_cores", lambda: logical)
    monkeypatch.setattr(candidates, "num_physical_cores", lambda: physical)
    assert default_num_threads() == expected
