"""The judge of `make faults`, and that its cases are the same for the same seed."""

from __future__ import annotations

import random
import signal
from collections import Counter
from pathlib import Path

import pytest
from fuzzing.areas import AREAS
from fuzzing.bundles import Place, mutation, resealed
from fuzzing.outcomes import Hang, Ran, at_most, command, complaint_about, judged

from sdrt.bundle.folder import Bundle
from sdrt.errors import RequestError

CLEAR = "sdrt: seed: got 'x', expected a whole number\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, random.Random(1), share=0.01)


@pytest.mark.parametrize(
    ("ran", "kind"),
    [
        (Ran(0), "works"),
        (Ran(1, err=CLEAR), "clear"),
        (Ran(2, err=f"sdrt: note: a\n{CLEAR}"), "clear"),
        (Ran(1), "unclear"),
        (Ran(1, err="Error\n"), "unclear"),
        (Ran(1, err=CLEAR * 2), "unclear"),
        (Ran(1, err=f"sdrt: {'x' * 5000}\n"), "unclear"),
        (Ran(1, err="sdrt: \x1b[1m\n"), "unclear"),
        (Ran(1, err="Traceback (most recent call last):\nValueError\n"), "traceback"),
        (Ran(raised=RequestError("seed: got 'x', expected a number")), "clear"),
        (Ran(raised=ValueError("x")), "traceback"),
        (Ran(-signal.SIGSEGV), "signal"),
        (Ran(hung=True), "hang"),
    ],
)
def test_an_outcome_is_judged(ran: Ran, kind: str) -> None:
    assert judged("a", ran).kind == kind


def test_success_may_be_wrong() -> None:
    assert judged("a", Ran(0), success="silent").kind == "silent"


def test_what_takes_too_long_is_a_hang() -> None:
    with pytest.raises(Hang), at_most(0.05):
        signal.pause()


def test_a_command_runs_with_its_output_in_this_process(place: Place) -> None:
    ran = command("inspect", place.work / "none")
    assert (ran.code, complaint_about(ran.err)) == (1, "")


def test_the_same_seed_makes_the_same_change(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"other")
    changes = [mutation(random.Random(5), b"content", [other]) for _ in range(2)]
    assert changes[0] == changes[1]
    assert changes[0][1] != b"content"


def test_a_manifest_is_sealed_again_with_the_hashes_of_changed_files(place: Place) -> None:
    bundle = place.copy(place.toy())
    (bundle / "model_index.json").write_text("{}")
    resealed(bundle, lambda document: document.update(source="me"))
    assert Bundle.open(bundle).manifest.source == "me"


@pytest.mark.parametrize(
    "name", ["every bit of its defaults", "keywords next to a Request", "files of weights"]
)
def test_an_area_has_no_bad_case(name: str, place: Place) -> None:
    (area,) = (area for area in AREAS if area.name == name)
    kinds = Counter(case.kind for case in area.cases(place))
    assert kinds.keys() <= {"works", "clear", "identical"}
    assert kinds.total() > 3


def test_names_of_areas_are_unique() -> None:
    assert len({area.name for area in AREAS}) == len(AREAS)
