"""Builds the wheel and the sdist, checks their contents, and tries both on each Python found.

    python tools/dist.py

needs `build`, `hatchling` and `twine` (requirements/release.txt). The archives appear in `dist/`
after every check has passed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence, Set
from pathlib import Path, PurePosixPath

from measure import PACKAGES

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
PYTHONS = ("python3.11", "python3.12", "python3.13")
NOT_IN_WHEEL = "export/sdrt_export/demo_checkpoint/"
METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
NEEDED = {
    *(f"{PurePosixPath(package).name}/py.typed" for package in PACKAGES),
    "sdrt/demo_bundle/sdrt.json",
}
PROMPT = "a large red circle on a white background"
NO_CHECKPOINT = "sdrt: the demo's checkpoint is not in this copy of sdrt: "


class DistError(Exception):
    """A check that failed."""


def build(folder: Path) -> tuple[Path, Path]:
    """The wheel and the sdist, built into `folder`; the wheel comes from the sdist."""
    call([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)])
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    call([sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)])
    return wheel, sdist


def check_contents(wheel: Path, sdist: Path) -> None:
    """DistError unless the sdist holds what git tracks, and the wheel what it should of that."""
    packed = names_in_sdist(sdist)
    faults = [*faults_of_sdist(packed, tracked_files(ROOT))]
    faults += faults_of_wheel(names_in_wheel(wheel), packed)
    if faults:
        raise DistError("\n".join(faults))


def faults_of_sdist(names: Set[str], tracked: Set[str] | None) -> Iterator[str]:
    """What is wrong with an sdist of these files; `tracked` is None outside a git checkout."""
    if tracked is None:
        return
    yield from (f"sdist: {name} is missing" for name in sorted(tracked - names))
    extra = names - tracked - {"PKG-INFO"}
    yield from (f"sdist: {name} is not tracked by git" for name in sorted(extra))


def faults_of_wheel(names: Set[str], packed: Set[str]) -> Iterator[str]:
    """What is wrong with a wheel of these files that was built from an sdist of `packed`."""
    expected = NEEDED | {
        str(PurePosixPath(name).relative_to(PurePosixPath(package).parent))
        for package in PACKAGES
        for name in packed
        if name.startswith(f"{package}/") and not name.startswith(NOT_IN_WHEEL)
    }
    info = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    missing = (expected - names) | (METADATA - {name.partition("/")[2] for name in info})
    yield from (f"wheel: {name} is missing" for name in sorted(missing))
    extra = (names - info - expected) | {
        name for name in info if name.partition("/")[2] not in METADATA
    }
    yield from (f"wheel: {name} does not belong there" for name in sorted(extra))


def names_in_sdist(path: Path) -> set[str]:
    """The files, without the top folder."""
    with tarfile.open(path) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


def names_in_wheel(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def tracked_files(root: Path) -> set[str] | None:
    """What git tracks; None if `root` is not a checkout."""
    if not (root / ".git").exists():
        return None
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True)
    return {os.fsdecode(name) for name in listing.stdout.split(b"\0") if name}


def pythons() -> list[str]:
    """The Pythons on PATH that run; pyenv's shims of versions that are not chosen do not."""
    found = [name for name in PYTHONS if shutil.which(name)]
    return [
        name
        for name in found
        if subprocess.run([name, "-c", ""], capture_output=True).returncode == 0
    ]


class Trial:
    """An archive installed in an empty environment; commands run in an empty folder."""

    def __init__(self, python: str, archive: Path, folder: Path) -> None:
        self.folder = folder / "empty"
        self.folder.mkdir(parents=True)
        call([python, "-m", "venv", str(folder / "venv")])
        self.programs = folder / "venv" / "bin"
        self.environment = {
            name: value for name, value in os.environ.items() if name != "PYTHONPATH"
        } | {"SDRT_CACHE": str(folder / "cache"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        self.call("pip", "install", "--quiet", str(archive))

    def call(self, program: str, *arguments: str) -> str:
        """Runs a program of the environment; its output."""
        return call([str(self.programs / program), *arguments], self.folder, self.environment)

    def refusal(self, program: str, *arguments: str) -> str:
        """What a command that must fail writes to stderr."""
        command = [str(self.programs / program), *arguments]
        outcome = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        if outcome.returncode != 1:
            raise DistError(
                f"{' '.join(arguments)}: got exit code {outcome.returncode}, expected 1"
            )
        return outcome.stderr

    def draw(self, name: str) -> bytes:
        self.call("sdrt", "run", "demo", PROMPT, "--steps", "5", "--seed", "7", "-o", name)
        return (self.folder / name).read_bytes()

    def installed(self) -> dict[Path, int]:
        """sdrt's files among the environment's packages, with the time of their last change."""
        places = self.call("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
        return {
            path: path.stat().st_mtime_ns
            for entry in Path(places.strip()).glob("sdrt*")
            for path in [entry, *entry.rglob("*")]
            if "__pycache__" not in path.parts and not path.is_dir()
        }


def try_out(python: str, archive: Path, folder: Path) -> bytes:
    """The demo's image from `archive` installed on `python`.

    DistError unless builds leave the installed files alone and nothing remains of them once they
    are uninstalled.
    """
    trial = Trial(python, archive, folder)
    trial.call("python", "-c", "import sdrt")
    trial.call("sdrt", "doctor")
    image, before = trial.draw("x.png"), trial.installed()
    refusal = trial.refusal("sdrt", "export", "demo", "-o", "bundle")
    if not refusal.startswith(NO_CHECKPOINT) or refusal.count("\n") != 1:
        raise DistError(f"sdrt export demo: got '{refusal}', expected '{NO_CHECKPOINT}…'")
    trial.call("sdrt", "build", "demo", "--target", "cpu", "--quiet")
    if trial.draw("built.png") != image:
        raise DistError("what `sdrt build demo --target cpu` built draws another image")
    if trial.installed() != before:
        raise DistError("`sdrt build demo` changed the installed package")
    trial.call("pip", "uninstall", "--quiet", "--yes", "sdrt")
    if left := trial.installed():
        raise DistError(f"pip uninstall leaves {', '.join(map(str, left))}")
    return image


def call(
    command: Sequence[str], folder: Path | None = None, environment: dict[str, str] | None = None
) -> str:
    """The output of a command; DistError with all that it wrote if it fails."""
    outcome = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if outcome.returncode:
        raise DistError(f"{' '.join(command)}\n{outcome.stdout}")
    return outcome.stdout


def main() -> int:
    """Builds, checks and tries; the exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        try:
            archives = build(work / "dist")
            check_contents(*archives)
            for python in pythons() or [sys.executable]:
                images = [
                    try_out(python, path, work / f"{Path(python).name}-{path.suffix}")
                    for path in archives
                ]
                if images[0] != images[1]:
                    raise DistError(f"{python}: wheel and sdist draw different images")
                print(f"{python}: wheel and sdist install, draw, build and uninstall")
        except DistError as error:
            print(error, file=sys.stderr)
            return 1
        shutil.rmtree(DIST, ignore_errors=True)
        shutil.copytree(work / "dist", DIST)
    for path in sorted(DIST.iterdir()):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
