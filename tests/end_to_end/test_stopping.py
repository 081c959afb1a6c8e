"""Signals and the end of Python while a network runs: a quiet end with the right exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.slow_networks import ENDLESS, chain_model
from support.toy_bundle import write_toy_bundle

# A shell makes its background jobs ignore interrupts, these tests included.
RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from sdrt_command import main
from support.running import say_when_running
say_when_running()
sys.exit(main())
"""
IN_A_THREAD = """
import atexit, sys, threading
import numpy as np
import sdrt_engines
opener, num_rows = sys.argv[1:]
engine = getattr(sdrt_engines, opener)("chain.onnx", num_threads=1)
def run():
    while True:
        sys.stdout.write("running\\n")
        sys.stdout.flush()
        engine.run({"x": np.ones((int(num_rows), 256), np.float32)})
threading.Thread(target=run, daemon=True).start()
sys.stdin.readline()
atexit.register(engine.close)
sys.exit(3)
"""
IN_AN_EXECUTOR = """
import asyncio
import numpy as np
from sdrt_engines import engine_from_onnx
engine = engine_from_onnx("chain.onnx", num_threads=1)
async def main():
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, engine.run, {"x": np.ones((1, 256), np.float32)})
    loop.run_in_executor(None, engine.run, {"x": np.ones((50, 256), np.float32)})
    raise SystemExit(3)
asyncio.run(main())
"""


def started(program: str, *arguments: str, folder: Path) -> subprocess.Popen[str]:
    """The process, once one of its networks runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    return process


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    (tmp_path / "chain.onnx").write_bytes(chain_model())
    return tmp_path


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    write_toy_bundle(tmp_path / "toy", num_trips=ENDLESS)
    return tmp_path


def generating(folder: Path, target: str) -> subprocess.Popen[str]:
    sizes = ("--width", "64", "--height", "64", "--num-threads", "1")
    return started(RUN, "run", "toy", "a circle", *sizes, "--target", target, folder=folder)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_running_network(number: int, code: int, endless: Path) -> None:
    process = generating(endless, "cpu")
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (code, "")
    assert err == "sdrt: interrupted, no incomplete file was left\n"
    assert [path.name for path in endless.iterdir()] == ["toy"]


@pytest.mark.needs("openvino")
def test_a_second_signal_ends_a_node_that_does_not_return(endless: Path) -> None:
    process = generating(endless, "openvino")
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (143, "")
    assert err == "sdrt: interrupted; the next command removes incomplete files\n"
    assert [path.name for path in endless.iterdir()] == ["toy"]


@pytest.mark.parametrize(
    ("opener", "num_rows"),
    [
        ("engine_from_onnx", 1),
        ("engine_from_onnx", 8192),
        pytest.param("openvino_engine_from_onnx", 1, marks=pytest.mark.needs("openvino")),
    ],
)
def test_python_ends_while_a_thread_runs_a_network(opener: str, num_rows: int, chain: Path) -> None:
    process = started(IN_A_THREAD, opener, str(num_rows), folder=chain)
    _, err = process.communicate("\n", timeout=10)
    assert (process.returncode, err) == (3, "")


def test_an_executor_is_waited_for(chain: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", IN_AN_EXECUTOR],
        cwd=chain,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (process.returncode, process.stderr) == (3, "")
