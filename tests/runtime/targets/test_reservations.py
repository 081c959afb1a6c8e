"""Memory that is granted to several requests at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sdrt.errors import SdrtError
from sdrt.targets.reservations import IN_MEMORY, ON_GPU, VARIABLE, Reservations, bytes_from_text
from sdrt_engines import FreeMemory, resident_memory


class Machine:
    """A machine with 100 bytes, of which the process occupies some."""

    def __init__(self) -> None:
        self.used = 0
        self.reservations = Reservations(self.free, lambda: self.used)

    def free(self) -> FreeMemory:
        return FreeMemory(100 - self.used, "of a test")

    @property
    def left(self) -> int:
        found = self.reservations.free()
        assert found is not None
        return found.size


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    assert machine.left == 100 - machine.used


def test_granted_memory_is_not_free_for_others(machine: Machine) -> None:
    with machine.reservations.granted(lambda: 60):
        assert machine.left == 40
        with machine.reservations.granted(lambda: 30):
            assert machine.left == 10


def test_memory_that_was_taken_counts_once(machine: Machine) -> None:
    machine.used = 5
    with machine.reservations.granted(lambda: 60):
        machine.used = 35
        assert machine.left == 100 - 65
        machine.used = 80  # more than was granted
        assert machine.left == 20


def test_a_request_that_is_refused_keeps_nothing(machine: Machine) -> None:
    def refuse() -> int:
        raise SdrtError("no")

    with pytest.raises(SdrtError), machine.reservations.granted(refuse):
        pass


def test_a_request_may_end_wherever_the_garbage_collector_runs(machine: Machine) -> None:
    """Also in the thread that asks for memory, while it holds the lock."""
    left = machine.reservations.granted(lambda: 60)
    left.__enter__()

    def choose() -> int:
        left.__exit__(None, None, None)
        return 30

    def ask() -> None:
        with machine.reservations.granted(choose):
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_the_limit_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    assert IN_MEMORY.free() is None
    assert ON_GPU.free() is None
    resident = resident_memory()
    assert resident is not None
    monkeypatch.setenv(VARIABLE, f"{resident + 2**20}")
    found = IN_MEMORY.free()
    assert found is not None
    assert found.size < 2**24
    assert found.limit == f"within {VARIABLE}"
    monkeypatch.setenv(VARIABLE, "900TiB")
    assert IN_MEMORY.free() != FreeMemory(900 * 2**40, f"within {VARIABLE}")  # the machine has less


@pytest.mark.parametrize(
    ("text", "expected"),
    [("20GiB", 20 * 2**30), ("512M", 2**29), ("1.5 gb", 3 * 2**29), ("7", 7), ("2k", 2048)],
)
def test_sizes(text: str, expected: int) -> None:
    assert bytes_from_text(text) == expected


@pytest.mark.parametrize("text", ["much", "-1", "1PiB", "9" * 400, "0x10", "1 2"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(SdrtError, match=f"{VARIABLE}: got .*, expected a size such as 20GiB"):
        bytes_from_text(text)
