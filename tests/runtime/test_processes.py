"""One bundle in many processes: forked after use, spawned, pickled."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from sdrt import Bundle, Pipeline, Request
from sdrt.errors import SdrtError
from support.backends import skip_unless_it_opens
from support.command import run_python
from support.toy_bundle import write_toy_bundle

needs_forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")

# A program: `forked(body)` is the exit code of a forked child that runs `body` and ends.
FORKED = """
import gc, os, signal, sys, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forks of a process with threads, Python 3.12
import sdrt
from sdrt_engines import EngineError

def forked(body=lambda: None):
    child = os.fork()
    if not child:
        body()
        sys.exit()
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    sys.exit("a forked process hangs")

def latents():
    return pipe("a red circle", seed=1, num_inference_steps=2).latents.tobytes()

def run():
    assert latents() == expected

pipe = sdrt.Pipeline.open(root, target, num_threads=2)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("toy") / "bundle")


def outcome_of(program: str, root: Path, target: str) -> list[str]:
    """The lines that a program prints after `FORKED`."""
    done = run_python(f"root, target = {str(root)!r}, {target!r}\n{FORKED}{program}")
    assert done.stderr == ""
    return done.stdout.splitlines()


@needs_forks
def test_forked_processes_load_engines_of_their_own(root: Path) -> None:
    program = """
from multiprocessing import get_context
expected = latents()

def without():
    pipe.close()
    del globals()["pipe"]
    gc.collect()

def finish():
    for step in stream:
        pass
    assert stream.result.latents.tobytes() == expected
    pipe.close()

def in_the_middle():
    with pipe._changing, pipe.engines._changing, pipe.engines["unet"]._runs._idle:
        return forked(lambda: sys.exit(forked(run)))

def new():
    with sdrt.Pipeline.open(root, target) as pipe:
        assert pipe("a red circle", seed=1, num_inference_steps=2).latents.tobytes() == expected

stream = pipe.stream("a red circle", seed=1, num_inference_steps=2)
next(stream)
print(forked(), forked(without), forked(finish), in_the_middle())
with get_context("fork").Pool(1) as pool:
    pool.apply_async(run).get(timeout=10)
run()
finish()
print(forked(new))
"""
    assert outcome_of(program, root, "cpu") == ["0 0 0 0", "0"]


@needs_forks
def test_openvino_is_refused_in_processes_that_are_forked_after_its_first_run(root: Path) -> None:
    """Before that it works, as with gunicorn's --preload and an application that opens a pipeline
    when it is loaded."""
    skip_unless_it_opens("openvino")
    program = """
import logging
from sdrt_engines import Resolution, Target, backend_of
logging.disable()
print(forked(latents), flush=True)
expected = latents()
others = (backend_of(Target("cpu")),)
auto = sdrt.Pipeline(sdrt.Bundle.open(root), Resolution(Target("openvino"), others=others))
auto("a red circle", num_inference_steps=1)

def refused():
    for call in (run, lambda: sdrt.Pipeline.open(root, target)):
        try:
            call()
        except EngineError as error:
            print(error, flush=True)

def on_the_next():
    print(auto("a red circle", num_inference_steps=1).engine, flush=True)

print(forked(pipe.close), forked(refused), forked(on_the_next), flush=True)
run()
pipe.close()
print(forked())
"""
    reason = (
        "openvino was used before this process was forked, and its threads do not exist here: "
        "start processes with 'spawn', or fork before that"
    )
    on_the_next = f"cpu (after openvino: {reason})"
    assert outcome_of(program, root, "openvino") == [
        *("0", reason, reason, on_the_next, "0 0 0", "0"),
    ]


@needs_forks
def test_engines_of_the_caller(root: Path) -> None:
    program = """
import numpy as np
from sdrt_engines import FunctionEngine, Signature
from sdrt.targets.engines import open_engine
unet = open_engine(sdrt.Bundle.open(root), "unet", "cpu")
function = FunctionEngine(Signature((), ()), lambda feeds: {})

def use():
    print(function.run({}))
    unet.close()
    try:
        unet.run({})
    except EngineError as error:
        print(error, flush=True)

with function._runs._idle:
    print(forked(use))
"""
    assert outcome_of(program, root, "cpu") == [
        "{}",
        "unet: this engine was opened before this process was forked: open it again",
        "0",
    ]


@needs_forks
def test_onnxruntime_starts_no_thread_that_forked_processes_wait_for() -> None:
    program = """
import os, sdrt_engines
from sdrt_engines.onnxruntime_library import import_onnxruntime
before = dict(os.environ)
import_onnxruntime()
assert os.environ == before
print(len(os.listdir("/proc/self/task")), flush=True)
"""
    assert (
        run_python(f"import os; os.environ['OPENBLAS_NUM_THREADS'] = '1'{program}").stdout == "1\n"
    )


POOL = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import sdrt

def start(root):
    global pipe
    pipe = sdrt.Pipeline.open(root, "cpu")

def generate(request):
    return pipe(request)

def main(root):
    requests = [sdrt.Request("a red circle", seed=seed, num_inference_steps=1) for seed in (1, 2)]
    with ProcessPoolExecutor(2, get_context("spawn"), start, (root,)) as pool:
        results = [*pool.map(generate, requests)]
    start(root)
    for request, result in zip(requests, results):
        assert result.images[0].tobytes() == generate(request).images[0].tobytes()
"""


def test_a_pool_of_spawned_processes(root: Path, tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    done = run_python(f"import pool; pool.main({str(root)!r})", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_can_be_pickled_and_what_not(root: Path) -> None:
    with Pipeline.open(root, "cpu") as pipe:
        with pytest.raises(SdrtError, match="cannot be pickled: open it in each process"):
            pickle.dumps(pipe)
        with pytest.raises(SdrtError, match=r"^unet: an engine cannot be pickled: open it in each"):
            pickle.dumps(pipe.engines["unet"])
        result = pipe(Request("a red circle", num_inference_steps=1))
    for value in (Bundle.open(root), result.request, result.notes, result.timings):
        assert pickle.loads(pickle.dumps(value)) == value
    assert pickle.loads(pickle.dumps(result)).images == result.images
