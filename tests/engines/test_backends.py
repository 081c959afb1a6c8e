"""Requirements for every backend, whatever its library."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from sdrt_engines import (
    BACKENDS,
    Backend,
    EngineError,
    Signature,
    Source,
    Target,
    backend_of,
    resolve_target,
)

NOTHING = Source(
    name="unet", signature=Signature((), ()), network=Path("no.onnx"), precision="fp32"
)


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.param
    return found


def targets_of(backend: Backend) -> list[Target]:
    """The backend alone, and with each of its settings."""
    return [
        Target(backend.name),
        *(Target(backend.name, precision=precision) for precision in backend.precisions),
        *(Target(backend.name, (architecture,)) for architecture in backend.architectures),
        *([Target(backend.name, backend.architectures)] if backend.architectures else []),
    ]


def test_names_are_unique() -> None:
    assert len({backend.name for backend in BACKENDS}) == len(BACKENDS)


def test_a_backend_is_a_value(backend: Backend) -> None:
    with pytest.raises(FrozenInstanceError):
        backend.name = "other"  # type: ignore[misc]


def test_a_backend_names_the_packages_that_bring_it(backend: Backend) -> None:
    assert backend.packages
    assert all(re.fullmatch(r"[a-z0-9-]+", package) for package in backend.packages)


def test_a_target_of_each_setting_is_written_as_it_is_read(backend: Backend) -> None:
    for target in targets_of(backend):
        assert Target.parse(str(target)) == target
        assert backend_of(target) is backend


def test_what_computes_in_a_chosen_precision_says_in_which(backend: Backend) -> None:
    for precision in backend.precisions:
        assert backend.chosen_precision(Target(backend.name, precision=precision)) == precision
    assert backend.chosen_precision(Target(backend.name)) in (*backend.precisions[:1], None)


def test_a_refusal_has_a_remedy(backend: Backend) -> None:
    for target in targets_of(backend):
        reason = backend.refusal(target)
        assert reason is None or re.search(r": (pip install|install|use) \S", reason), reason


def test_what_is_refused_does_not_open(backend: Backend) -> None:
    for target in targets_of(backend):
        if reason := backend.refusal(target):
            with pytest.raises(EngineError, match=re.escape(reason)):
                backend.open(NOTHING, target, None)
            with pytest.raises(EngineError, match=re.escape(reason)):
                resolve_target(target)


def test_what_is_not_there_does_not_open(backend: Backend) -> None:
    with pytest.raises(EngineError):
        backend.open(NOTHING, Target(backend.name), None)
