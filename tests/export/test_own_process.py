"""A function in its own process: its result, its errors, and its end with its caller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sdrt_export import component
from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.component import export_part
from sdrt_export.errors import ExportError
from sdrt_export.networks.loading import parts_from_checkpoint
from sdrt_export.own_process import call_in_own_process

pytestmark = pytest.mark.export

# A user's script, without `if __name__ == "__main__"`: the process must not run it again.
SCRIPT = """
import sys, time
from sdrt_export.own_process import call_in_own_process
print("started", flush=True)
call_in_own_process("unet", time.sleep, 60)
"""


def test_results_and_printing() -> None:
    assert call_in_own_process("unet", divmod, 17, 5) == (3, 2)
    assert call_in_own_process("unet", print, "not an answer") is None


def test_errors_pass_through_with_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError, match="by zero") as caught:
        call_in_own_process("unet", divmod, 1, 0)
    assert "Traceback" in caught.value.__notes__[0]
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (-9, "unet: the system ended the process that runs torch, most likely for lack of memory"),
        (3, "unet: the process that runs torch ended with exit code 3: report this"),
    ],
)
def test_an_early_end_is_one_error(code: int, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        if code < 0:
            call_in_own_process("unet", signal.raise_signal, -code)
        else:
            call_in_own_process("unet", os._exit, code)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc").exists(), reason="lists processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_caller(number: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as caller:
        wait_for(lambda: bool(children_of(caller.pid)))
        (child,) = children_of(caller.pid)
        time.sleep(0.3)  # it may be at any line
        caller.send_signal(number)
        printed, _ = caller.communicate()
    assert printed == "started\n"
    assert caller.returncode != 0
    wait_for(lambda: not Path(f"/proc/{child}").exists())


def test_an_export_is_the_same(
    checkpoint: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (part,) = (
        part
        for part in parts_from_checkpoint(checkpoint_from_source(checkpoint))
        if part.name == "text_encoder"
    )
    monkeypatch.setattr(component, "OWN_PROCESS_ABOVE", 0)
    (record,) = export_part(part, tmp_path, "auto", lambda stage: None)
    assert record.parity is not None
    assert record.parity.psnr > 100
    for file in record.files:
        assert (tmp_path / file.path).read_bytes() == (bundle / file.path).read_bytes()
