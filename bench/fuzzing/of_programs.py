"""Programs that use sdrt: their end with a request in a daemon thread, fork and spawn, many
processes at once, broken or shadowed packages."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from textwrap import dedent, indent

from fuzzing.bundles import PROMPT, Place, pixels
from fuzzing.long_networks import endless
from fuzzing.of_stopping import SIZE, targets
from fuzzing.outcomes import Case, Kind, Ran, child, judged

_DRAW = "seed=7, num_inference_steps=2, width=64, height=64"


def _program(place: Place, text: str, seconds: float = 30) -> Ran:
    """A Python program as a process of its own."""
    path = place.work / "program.py"
    path.write_text(text)
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return child((), place.work, seconds, entry=(str(path),), env=env)


def _quiet(name: str, ran: Ran, code: int = 0) -> Case:
    """Good: this exit code, and nothing on stderr."""
    if ran.hung:
        return Case(name, "hang")
    if ran.code != code:
        failed: Kind = "traceback" if "Traceback" in ran.err else "signal"
        return Case(name, failed, f"exit code {ran.code}: {ran.err[-300:]}")
    return Case(name, "unclear" if ran.err else "works", ran.err[-300:])


# --- the end of a program

_ENDS: Mapping[str, tuple[str, int]] = {  # what the main thread does while a request runs
    "returns": ("", 0),
    "sys.exit(3)": ("sys.exit(3)", 3),
    "closes first": ("pipe.close()", 0),
    "leaves a stream": ("next(iter(pipe.stream('b', **draw)))", 0),
}


def ends_of_programs(place: Place) -> Iterator[Case]:
    """The main thread ends while daemon threads generate."""
    bundles = {
        "the demo": place.demo(),
        "endless": place.once("endless", partial(endless, place.toy())),
    }
    for (name, bundle), target, what in itertools.product(bundles.items(), targets(), _ENDS):
        if name == "endless" and what in ("closes first", "leaves a stream"):
            continue  # both wait for a run, which does not end
        action, code = _ENDS[what]
        text = _END.format(bundle=str(bundle), target=target, draw=_DRAW, action=action)
        yield _quiet(f"{name} on {target}: {what}", _program(place, text), code)


_END = dedent("""\
    import sys, threading, time
    from contextlib import suppress
    import sdrt

    pipe = sdrt.Pipeline.open({bundle!r}, {target!r})
    draw = dict({draw})

    def generate():
        with suppress(sdrt.SdrtError):
            while True:
                pipe("a", **draw)

    for _ in range(2):
        threading.Thread(target=generate, daemon=True).start()
    time.sleep(1)
    {action}
""")


# --- fork and spawn


def forks_and_pools(place: Place) -> Iterator[Case]:
    """Children of a process with an open pipeline: each draws the same image or says in one line
    why not; the parent draws on."""
    for target, (name, action) in itertools.product(targets(), _CHILDREN.items()):
        body = indent(dedent(action), "    ")
        text = _CHILD.format(bundle=str(place.demo()), target=target, draw=_DRAW, body=body)
        yield _quiet(f"{target}: {name}", _program(place, text, 60))


_CHILD = dedent("""\
    import multiprocessing, os, sys, threading
    from concurrent.futures import ProcessPoolExecutor
    import sdrt

    BUNDLE, TARGET, DRAW = {bundle!r}, {target!r}, dict({draw})

    def drawn(pipe):
        return pipe("a", **DRAW).images[0].tobytes()

    def opened_and_drawn(_):
        with sdrt.Pipeline.open(BUNDLE, TARGET) as pipe:
            return drawn(pipe)

    def drawn_or_refused(draw, *arguments):
        try:
            return draw(*arguments)
        except sdrt.SdrtError as error:
            return None if "\\n" not in str(error) else str(error)

    def in_forked_pool(_):
        return drawn_or_refused(opened_and_drawn, 0)

    def wrong_in_a_fork(draw, *arguments):
        return in_a_fork(lambda: drawn_or_refused(draw, *arguments) not in (right, None))

    def in_a_fork(work):
        child = os.fork()
        if child == 0:
            os._exit(1 if work() else 0)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    if __name__ == "__main__":
        pipe = sdrt.Pipeline.open(BUNDLE, TARGET)
        right = drawn(pipe)
    {body}
        assert drawn(pipe) == right
""")

_CHILDREN = {
    "a fork draws": "assert not wrong_in_a_fork(drawn, pipe)",
    "a fork closes": "assert not in_a_fork(pipe.close)",
    "a fork exits": """\
        child = os.fork()
        if child == 0:
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """,
    "a fork opens its own": "assert not wrong_in_a_fork(opened_and_drawn, 0)",
    "a fork during requests": """\
        threads = [threading.Thread(target=drawn, args=(pipe,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert not wrong_in_a_fork(drawn, pipe)
        for thread in threads:
            thread.join()
    """,
    "a pool of spawned processes": """\
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, context) as pool:
            assert set(pool.map(opened_and_drawn, range(2))) == {right}
    """,
    "a pool of forked processes": """\
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(2, context) as pool:
            assert set(pool.map(in_forked_pool, range(2))) <= {right, None}
    """,
}


def many_processes(place: Place) -> Iterator[Case]:
    """Processes that run one bundle at once."""
    bundle, folder = place.toy_prepared(), place.work / "many"
    folder.mkdir(exist_ok=True)

    def ran(number: int) -> Ran:
        words = ("run", bundle, PROMPT, *SIZE, "--target", "cpu", "-o", folder / f"{number}.png")
        return child(words, place.work, 60)

    with ThreadPoolExecutor(8) as pool:
        all_ran = list(pool.map(ran, range(place.times(16))))
    right = pixels((folder / "0.png").read_bytes())
    for number, each in enumerate(all_ran):
        path = folder / f"{number}.png"
        same = path.exists() and pixels(path.read_bytes()) == right
        yield judged(f"process {number}", each, success="identical" if same else "silent")


# --- packages

_BROKEN = {  # the content of a package or module that hides the real one
    "an import error": "raise ImportError('libx.so.1: cannot open shared object file')",
    "an OS error": "raise OSError('libx.so.1: invalid ELF header')",
    "another error": "raise RuntimeError('not for this machine')",
    "a syntax error": "def",
    "nothing in it": "",
}


def broken_packages(place: Place) -> Iterator[Case]:
    """Backends' packages that are broken, or another's of the same name: `auto` takes the next
    target, a named one says in one line why not, and other commands work."""
    output = place.work / "b.png"
    for package, (what, content) in itertools.product(("openvino", "onnxruntime"), _BROKEN.items()):
        folder = _with_package(place, package, content)
        for target in ("auto", "cpu", "openvino"):
            words = ("run", place.toy(), PROMPT, *SIZE, "--target", target, "-o", output)
            yield judged(f"{package}: {what}, {target}", _ran_with(place, folder, words))
        yield judged(f"{package}: {what}, doctor", _ran_with(place, folder, ("doctor",)))
    folder = place.work / "namespace"
    (folder / "openvino").mkdir(parents=True, exist_ok=True)
    for target in ("auto", "cpu", "openvino"):
        words = ("run", place.toy(), PROMPT, *SIZE, "--target", target, "-o", output)
        yield judged(f"an empty folder openvino/, {target}", _ran_with(place, folder, words))


def _with_package(place: Place, package: str, content: str) -> Path:
    """A folder with a package of this content."""
    folder = place.work / "packages"
    (folder / package).mkdir(parents=True, exist_ok=True)
    (folder / package / "__init__.py").write_text(content)
    for other in folder.iterdir():
        if other.name != package:
            (other / "__init__.py").unlink()
            other.rmdir()
    return folder


def _ran_with(place: Place, folder: Path, words: tuple[object, ...]) -> Ran:
    """A command whose modules are looked for in this folder first."""
    sys.path.insert(0, str(folder))
    try:
        return child(words, place.work, 60, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    finally:
        sys.path.remove(str(folder))
