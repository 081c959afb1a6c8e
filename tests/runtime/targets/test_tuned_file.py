"""Verdicts in the cache: written atomically, read with care, and stale after any change."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdrt.bundle.folder import Bundle
from sdrt.errors import SdrtError
from sdrt.targets import conditions
from sdrt.targets.tuned import Tuning
from sdrt.targets.tuned_file import (
    forget_tuning,
    tuning_of,
    tuning_path,
    verdicts_on,
    write_tuning,
)
from support.built_records import write_half_graph
from support.invented_times import AMD, INTEL, OUT_OF_MEMORY, tuned_with
from support.toy_bundle import write_toy_bundle

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_toy_bundle(tmp_path / "bundle"))


@pytest.fixture
def tuning(bundle: Bundle) -> Tuning:
    steps: dict[str, float | Exception] = {**INTEL, "cuda": OUT_OF_MEMORY}
    steps["cpu with 2 threads"] = 5.0
    return tuned_with(bundle, steps, num_threads=(None, 2))


def fault_of(bundle: Bundle) -> str | None:
    """The reason why the only verdict does not hold."""
    (found,) = verdicts_on(bundle)
    assert (found.fault is None) == (tuning_of(bundle) is not None)
    return found.fault


def test_a_verdict_is_read_as_it_was_written(bundle: Bundle, tuning: Tuning) -> None:
    assert tuning_of(bundle) == tuning
    assert fault_of(bundle) is None


def test_it_does_not_lie_in_the_bundle(bundle: Bundle) -> None:
    before = set(bundle.root.rglob("*"))
    tuned_with(bundle, INTEL)
    assert set(bundle.root.rglob("*")) == before


def test_an_untuned_bundle_has_no_verdict(bundle: Bundle) -> None:
    assert tuning_of(bundle) is None
    assert list(verdicts_on(bundle)) == []


def test_another_bundle_has_its_own(bundle: Bundle, tuning: Tuning, tmp_path: Path) -> None:
    other = Bundle.open(write_toy_bundle(tmp_path / "other"))
    assert tuning_of(other) is None


def test_a_second_verdict_takes_the_place_of_the_first(bundle: Bundle, tuning: Tuning) -> None:
    second = tuned_with(bundle, AMD)
    assert tuning_of(bundle) == second
    assert len(list(verdicts_on(bundle))) == 1


def test_it_is_forgotten(bundle: Bundle, tuning: Tuning) -> None:
    path = tuning_path(bundle)
    assert forget_tuning(bundle) == path
    assert tuning_of(bundle) is None
    assert not path.parent.exists()
    assert forget_tuning(bundle) is None


# --- stale


def test_another_version_of_a_library(
    bundle: Bundle, tuning: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "installed_versions", lambda *names: {"onnxruntime": "9.0"})
    reason = fault_of(bundle)
    assert reason is not None
    assert reason.startswith("onnxruntime was ")
    assert reason.endswith(" then and is 9.0 now")


def test_another_manifest(bundle: Bundle, tuning: Tuning) -> None:
    changed = replace(bundle, manifest=replace(bundle.manifest, defaults={"guidance_scale": 1.0}))
    assert fault_of(changed) == "the bundle was exported again or changed since then"


def test_a_rebuilt_graph(bundle: Bundle) -> None:
    unet = bundle.component("unet")
    write_half_graph(bundle.root, unet)
    tuned_with(bundle, INTEL)
    assert fault_of(bundle) is None
    write_half_graph(bundle.root, unet, "bf16")
    assert fault_of(bundle) == ("engines of the bundle were built or removed since then")


@pytest.mark.parametrize(
    "change", [{"processor": "another"}, {"num_cores": 999}, {"gpus": ("NVIDIA H100",)}]
)
def test_another_machine_has_its_own_verdict(
    change: dict[str, Any], bundle: Bundle, tuning: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So machines that share a home folder do not overwrite each other's."""
    here = conditions.this_machine()
    monkeypatch.setattr(conditions, "this_machine", lambda: replace(here, **change))
    assert tuning_of(bundle) is None
    assert fault_of(bundle) == f"it was measured on another machine ({here})"
    second = tuned_with(bundle, AMD)
    assert tuning_of(bundle) == second
    assert [found.fault for found in verdicts_on(bundle)] == [
        None,
        f"it was measured on another machine ({here})",
    ]
    assert forget_tuning(bundle) is not None
    monkeypatch.undo()


# --- damaged


def put(field: str, value: object) -> Edit:
    """Sets a field, by its path: `targets.0.psnr`."""

    def edit(document: dict[str, Any]) -> None:
        *parents, last = field.split(".")
        place: Any = document
        for parent in parents:
            place = place[int(parent)] if parent.isdigit() else place[parent]
        place[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("record_version", 2), "record_version: got 2, expected 1"),
        (put("speed", 1), "speed: unknown field"),
        (put("targets.0.trials.0.speed", 1), "targets[0].trials[0].speed: unknown field"),
        (put("targets.0.target", "cdua"), "targets[0]: unknown target 'cdua'"),
        (put("targets.1.ends", []), "openvino: got times at 0 shapes, expected 1"),
        (put("targets.1.trials.0.steps", []), "targets[1].trials[0]: steps: expected some"),
        (put("targets.1.trials", []), "targets[1]: trials: expected one that ran, or an error"),
        (put("targets.1.ends.0.text", 0), "targets[1].ends[0]: text: got 0.0, expected above 0"),
        (put("targets.1.ends.0.text", 1e300), "targets[1].ends[0]: text: got 1e+300, expected"),
        (put("targets.1.ends.0.text", 10**400), "targets[1].ends[0].text: got 1000"),
        (put("targets.1.ends.0.text", float("nan")), "not valid JSON (NaN is not JSON)"),
        (put("targets.1.trials.0.num_threads", 10**6), "targets[1].trials[0]: num_threads: got"),
        (put("num_steps", 10**100), "num_steps: got 1000"),
        (put("shapes", []), "shapes: got none"),
        (put("shapes.0.width", -1), "shapes[0]: width: got -1"),
        (put("created", "yesterday"), "created: got 'yesterday'"),
        (put("conditions", {}), "conditions.machine: missing"),
        (lambda document: document.pop("shapes"), "shapes: missing"),
    ],
)
def test_a_damaged_verdict_is_ignored(
    edit: Edit, message: str, bundle: Bundle, tuning: Tuning
) -> None:
    path = tuning_path(bundle)
    document = json.loads(path.read_text(encoding="utf-8"))
    edit(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    reason = fault_of(bundle)
    assert reason is not None
    assert reason.startswith(message)


@pytest.mark.parametrize("length", [0, 1, 200])
def test_a_truncated_verdict_is_ignored(length: int, bundle: Bundle, tuning: Tuning) -> None:
    path = tuning_path(bundle)
    path.write_bytes(path.read_bytes()[:length])
    assert str(fault_of(bundle)).startswith("not valid JSON")


@pytest.mark.parametrize("content", [b"[]", b'"tuned"', b"\xff\xfe", b"[" * 100_000])
def test_any_other_file_is_ignored(content: bytes, bundle: Bundle, tuning: Tuning) -> None:
    tuning_path(bundle).write_bytes(content)
    assert fault_of(bundle)


def test_a_large_file_is_not_read(bundle: Bundle, tuning: Tuning) -> None:
    with tuning_path(bundle).open("r+b") as file:
        file.truncate(1 << 32)
    assert fault_of(bundle) == "it has more than 1048576 bytes"


def test_a_folder_in_its_place_is_ignored(bundle: Bundle) -> None:
    tuning_path(bundle).mkdir(parents=True)
    assert str(fault_of(bundle)).startswith("it cannot be read: ")
    with pytest.raises(SdrtError, match=r"cannot be removed: .*: remove it"):
        forget_tuning(bundle)


def test_without_a_cache_there_is_no_verdict(
    bundle: Bundle, tuning: Tuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "missing", tmp_path / "file", tmp_path / "file/sub"):
        monkeypatch.setenv("SDRT_CACHE", str(place))
        assert tuning_of(bundle) is None
    with pytest.raises(SdrtError, match="cannot write"):
        write_tuning(bundle, tuning)


def test_a_cache_that_cannot_be_read_is_reported(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root, only a name that is too long cannot be read."""
    monkeypatch.setenv("SDRT_CACHE", "x" * 300)
    assert tuning_of(bundle) is None
    with pytest.raises(SdrtError, match="' cannot be read: File name too long: set SDRT_CACHE to"):
        list(verdicts_on(bundle))


def test_two_that_write_at_once_leave_one_whole_verdict(bundle: Bundle, tuning: Tuning) -> None:
    others = [replace(tuning, num_steps=number) for number in range(1, 33)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda other: write_tuning(bundle, other), others))
    assert tuning_of(bundle) in others
    assert [path.name for path in tuning_path(bundle).parent.iterdir()] == [
        tuning_path(bundle).name
    ]
