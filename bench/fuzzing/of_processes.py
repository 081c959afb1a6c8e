"""Processes: strange environments, closed streams, no rights, kills at random moments."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fuzzing.bundles import PROMPT, Place, drawn, pixels
from fuzzing.outcomes import Case, Ran, child, command, end_of, judged, send_signals, start
from sdrt.bundle.manifest import MANIFEST_NAME
from sdrt.files.atomic import appearing_folder

DRAW = ("--steps", "2", "--seed", "7", "--width", "64", "--height", "64", "--target", "cpu")


def environments(place: Place) -> Iterator[Case]:
    """Each draws an image, or says in one line why not."""
    output = place.work / "e.png"
    words = ["run", place.toy(), PROMPT, *DRAW, "-o", output]
    settings: Mapping[str, dict[str, Any]] = {
        "nothing special": {},
        "no variables": {"env": {}},
        "no HOME": {"env": _without("HOME")},
        "TMPDIR missing": {"env": {**os.environ, "TMPDIR": "/nothing"}},
        "cache not writable": {"env": {**os.environ, "SDRT_CACHE": "/proc/x"}},
        "OMP_NUM_THREADS=abc": {"env": {**os.environ, "OMP_NUM_THREADS": "abc"}},
        "locale C, UTF-8 mode off": {
            "env": {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        },
        "-O": {"python": ["-O"]},
        "-W error": {"python": ["-W", "error"]},
        "-X dev": {"python": ["-X", "dev"]},
        "stdin closed": {"stdin": subprocess.DEVNULL},
    }
    for name, options in settings.items():
        output.unlink(missing_ok=True)
        ran = child(words, place.work, 60, **options)
        case = judged(name, ran)
        missing = case.kind == "works" and not output.exists()
        yield Case(name, "silent", "exit 0 and no image") if missing else case


def streams(place: Place) -> Iterator[Case]:
    """Closed or full stdout and stderr: the image is written, the exit code says so."""
    output = place.work / "s.png"
    words = f"run {place.toy()} a {' '.join(DRAW)} -o {output}"
    for redirection in (">&-", "2>&-", ">&- 2>&-", ">/dev/full", "2>/dev/full", "<&-", "| head -0"):
        output.unlink(missing_ok=True)
        ran = _shell(f"python -m sdrt {words} {redirection}", place)
        kind = "works" if output.exists() and ran.code == 0 else "unclear"
        case = judged(f"run {redirection}", ran)
        yield (
            case if case.kind != "works" and ran.err else Case(case.name, kind, f"exit {ran.code}")
        )
    for words in (
        f"inspect {place.toy()} --json",
        "doctor",
        "run --help",
        f"inspect {place.toy()}",
    ):
        for redirection in ("| head -1", "| head -0", ">/dev/full", ">&-"):
            ran = _shell(f"set -o pipefail; python -m sdrt {words} {redirection}", place)
            yield _of_a_report(f"{words.split()[0]} {redirection}", ran)


def _of_a_report(name: str, ran: Ran) -> Case:
    """A lost report may be an error; without stdout, help goes to stderr."""
    if "Traceback" in ran.err:
        return Case(name, "traceback", ran.err[-200:])
    quiet = not ran.err or ran.err.startswith("sdrt: ") or ran.code == 0
    return Case(name, "works" if quiet else "unclear", ran.err[-200:])


def folders(place: Place) -> Iterator[Case]:
    """A deleted working folder, folders that may not be entered, limits of the shell."""
    output = place.work / "f.png"
    draw = f"python -m sdrt run {place.toy()} a {' '.join(DRAW)}"
    for name, script in {
        "deleted cwd": f"mkdir gone; cd gone; rmdir ../gone; {draw} -o {output}",
        "deleted cwd, default name": f"mkdir gone; cd gone; rmdir ../gone; {draw}",
        "20 open files": f"ulimit -n 20; {draw} -o {output}",
        "files of 1 kB": f"ulimit -f 1; {draw} -o {output}",
        "1 GB of memory": f"ulimit -v 1000000; {draw} -o {output}",
        "openvino/ in the cwd": "mkdir -p ns/openvino; cd ns; "
        f"{draw.replace('cpu', 'auto')} -o {output}",
        "json.py in the cwd": "mkdir -p js; cd js; echo > json.py; "
        f"python -P -m sdrt run {place.toy()} a {' '.join(DRAW)} -o {output}",
    }.items():
        output.unlink(missing_ok=True)
        yield judged(name, _shell(script, place))


def rights(place: Place) -> Iterator[Case]:
    """Another user, in this process: bundles and folders that may not be entered or written."""
    if os.getuid() != 0:
        return
    locked, open_to_all = place.copy(place.toy(), "locked"), place.work / "open"
    open_to_all.mkdir(exist_ok=True)
    open_to_all.chmod(0o777)
    locked.chmod(0o700)
    output = open_to_all / "r.png"
    for name, words in {
        "run": ("run", place.toy(), "a", *DRAW, "-o", output),
        "build": ("build", place.toy(), "--target", "cpu", "--component", "vae_encoder"),
        "run a locked bundle": ("run", locked, "a", *DRAW, "-o", output),
        "inspect a locked bundle": ("inspect", locked),
        "verify a locked bundle": ("verify", locked),
        "build a locked bundle": ("build", locked, "--target", "cpu"),
        "a locked image": ("run", place.toy(), "a", *DRAW, "--image", locked / "a.png"),
        "output in a locked folder": ("run", place.toy(), "a", *DRAW, "-o", locked / "a.png"),
    }.items():
        place.work.chmod(0o755)
        command(*words[:1], "--help")  # its modules, which this user may not read
        os.seteuid(65534)
        try:
            ran = command(*words)
        finally:
            os.seteuid(0)
        yield judged(name, ran, success="unclear" if "locked" in name else "works")


def _without(*names: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in names}


def _shell(script: str, place: Place, seconds: float = 60) -> Ran:
    import sys

    paths = os.pathsep.join(filter(None, sys.path))
    folder = str(Path(sys.executable).parent)
    env = {**os.environ, "PYTHONPATH": paths, "PATH": f"{folder}:{os.environ['PATH']}"}
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=place.work, env=env, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return Ran(hung=True)
    return Ran(
        done.returncode,
        done.stdout.decode("utf-8", "replace"),
        done.stderr.decode("utf-8", "replace"),
    )


# --- kills

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def kills_of_run(place: Place) -> Iterator[Case]:
    """Twelve PNGs: each that is there is whole, and the next run leaves nothing hidden."""
    folder = place.work / "killed"
    for number in range(place.times(16)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        words = ("run", place.toy(), "a", *DRAW, "--num-images", "12", "-o", folder / "p.png")
        name, ran = _killed(place, number, words, longest=1.6)
        broken = [path.name for path in folder.glob("*.png") if not _whole(path)]
        command(*words)
        broken += [path.name for path in folder.glob(".*")]
        yield _after(name, ran, broken)


def kills_of_build(place: Place) -> Iterator[Case]:
    """The bundle draws as before, and the next build leaves nothing hidden."""
    right = pixels(drawn(place, place.toy(), []).value)
    for number in range(place.times(12)):
        bundle = place.copy(place.toy())
        words = ("build", bundle, "--target", "cpu")
        name, ran = _killed(place, number, words, longest=1.2)
        yield _after(name, ran, _faults_of(place, bundle, right, words))


def kills_of_exports(place: Place) -> Iterator[Case]:
    """A new bundle, one in the place of another, a ControlNet into one: the old or the new."""
    if not find_spec("diffusers"):
        return
    for number in range(place.times(4)):
        new = number % 2 == 0
        bundle = place.work / "case" / "b"
        if new:
            shutil.rmtree(bundle.parent, ignore_errors=True)
            bundle.parent.mkdir()
        else:
            place.copy(place.toy())
        words = ("export", "demo", "-o", bundle, *(() if new else ("--replace",)))
        name, ran = _killed(place, number, words, longest=25)
        faults = [] if new and not bundle.exists() else _unusable(place, bundle)
        yield _after(name, ran, [*faults, *_left_after_the_next_writer(bundle.parent)])


def _left_after_the_next_writer(folder: Path) -> list[str]:
    with appearing_folder(folder / "next", proof=MANIFEST_NAME):
        pass
    return [path.name for path in folder.glob(".*") if path.name != ".lock"]


def _killed(
    place: Place, number: int, words: tuple[object, ...], longest: float
) -> tuple[str, Ran]:
    """A command, ended by a signal at a random moment unless it ends before."""
    sign = SIGNALS[number % len(SIGNALS)]
    after = place.random.uniform(0.1, longest)
    process = start(words, place.work, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    send_signals(process, [(after, sign)])
    begin = time.monotonic()
    ran = end_of(process, 15)
    return f"{words[0]} {sign.name} after {after:.2f} s ({time.monotonic() - begin:.1f} s)", ran


def _after(name: str, ran: Ran, faults: list[str]) -> Case:
    if faults:
        return Case(name, "broken", ", ".join(faults))
    if ran.hung:
        return Case(name, "hang")
    if "Traceback" in ran.err:
        return Case(name, "traceback", ran.err[-200:])
    return Case(name, "works", f"exit {ran.code}")


def _faults_of(place: Place, bundle: Path, right: bytes, again: tuple[object, ...]) -> list[str]:
    ran = drawn(place, bundle, [])
    if ran.code != 0:
        return [f"does not run: {ran.err[-150:]}"]
    wrong = [] if pixels(ran.value) == right else ["another image"]
    second = command(*again, seconds=60)
    left = [path.name for path in bundle.rglob(".*") if path.name != ".lock"]
    left += [path.name for path in bundle.parent.glob(".*") if path.name != ".lock"]
    return [*wrong, *left, *([] if second.code == 0 else [f"again: {second.err[-150:]}"])]


def _unusable(place: Place, bundle: Path) -> list[str]:
    ran = drawn(place, bundle, [])
    return [] if ran.code == 0 else [f"does not run: {ran.err[-150:]}"]


def _whole(path: Path) -> bool:
    try:
        return bool(pixels(path.read_bytes()))
    except Exception:
        return False
