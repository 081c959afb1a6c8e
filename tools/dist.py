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
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from measure import PACKAGES

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
COMMAND = "runtime/sdrt_command.py"
PYTHONS = ("python3.11", "python3.12", "python3.13")
NOT_IN_WHEEL = "export/sdrt_export/demo_checkpoint/"
METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
NEEDED = {
    *(f"{PurePosixPath(package).name}/py.typed" for package in PACKAGES),
    "sdrt/demo_bundle/sdrt.json",
}
PROMPT = "a large red circle on a white background"
WHERE = "import sdrt, pathlib; print(pathlib.Path(sdrt.__file__).parents[1])"
NO_CHECKPOINT = "sdrt: the demo's checkpoint is missing from this copy of sdrt: "


class DistError(Exception):
    """A check that failed."""


def build(folder: Path) -> tuple[Path, Path]:
    """The wheel and the sdist, built into `folder`; the wheel comes from the sdist."""
    call([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)])
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    call([sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)])
    return wheel, sdist


def check_contents(wheel: Path, sdist: Path) -> None:
    """DistError unless the sdist holds the files that git tracks, and the wheel its share of
    them."""
    packed = names_in_sdist(sdist)
    faults = [*faults_of_sdist(packed, tracked_files(ROOT))]
    faults += faults_of_wheel(names_in_wheel(wheel), packed)
    if faults:
        raise DistError("\n".join(faults))


def faults_of_sdist(names: Set[str], tracked: Set[str] | None) -> Iterator[str]:
    """The faults of an sdist of these files; `tracked` is None outside a git checkout."""
    if tracked is None:
        return
    yield from (f"sdist: {name} is missing" for name in sorted(tracked - names))
    extra = names - tracked - {"PKG-INFO"}
    yield from (f"sdist: {name} is not tracked by git" for name in sorted(extra))


def faults_of_wheel(names: Set[str], packed: Set[str]) -> Iterator[str]:
    """The faults of a wheel of these files, built from an sdist of `packed`."""
    expected = NEEDED | {
        str(PurePosixPath(name).relative_to(PurePosixPath(package).parent))
        for package in (*PACKAGES, COMMAND)
        for name in packed
        if f"{name}/".startswith(f"{package}/") and not name.startswith(NOT_IN_WHEEL)
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
    """The paths that git tracks; None if `root` is not a checkout."""
    if not (root / ".git").exists():
        return None
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True)
    return {os.fsdecode(name) for name in listing.stdout.split(b"\0") if name}


def pythons() -> list[str]:
    """The Pythons on PATH that run; pyenv's shims of inactive versions do not."""
    found = [name for name in PYTHONS if shutil.which(name)]
    return [
        name
        for name in found
        if subprocess.run([name, "-c", ""], capture_output=True).returncode == 0
    ]


@dataclass(frozen=True)
class Trial:
    """An environment with only sdrt and its dependencies; commands run in `folder`."""

    folder: Path
    programs: Path
    environment: Mapping[str, str]

    def call(self, program: str, *arguments: str, code: int = 0) -> str:
        """The output of a program of the environment, which must exit with that code."""
        command = [str(self.programs / program), *arguments]
        return call(command, self.folder, self.environment, code)

    def image(self, name: str) -> bytes:
        """The content of the PNG that the demo model generates."""
        self.call("sdrt", "run", "demo", PROMPT, "--steps", "5", "--seed", "7", "-o", name)
        return (self.folder / name).read_bytes()


def installed_trial(python: str, archive: Path, folder: Path) -> Trial:
    """A new environment in `folder` with `archive` installed."""
    call([python, "-m", "venv", str(folder / "venv")])
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    own = {"SDRT_CACHE": str(folder / "cache"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    trial = Trial(folder / "empty", folder / "venv" / "bin", inherited | own)
    trial.folder.mkdir()
    trial.call("pip", "install", "--quiet", str(archive))
    return trial


def try_out(python: str, archive: Path, folder: Path) -> bytes:
    """The demo's image from `archive` installed on `python`.

    DistError unless builds leave the installed files unchanged and uninstalling removes all of
    them.
    """
    trial = installed_trial(python, archive, folder)
    packages = Path(trial.call("python", "-c", WHERE).strip())
    trial.call("sdrt", "doctor")
    image, before = trial.image("x.png"), state_of(packages)
    refusal = trial.call("sdrt", "export", "demo", "-o", "bundle", code=1)
    if not refusal.startswith(NO_CHECKPOINT) or refusal.count("\n") != 1:
        raise DistError(f"sdrt export demo: got '{refusal}', expected '{NO_CHECKPOINT}…'")
    trial.call("sdrt", "build", "demo", "--target", "cpu", "--quiet")
    if trial.image("built.png") != image:
        raise DistError("the demo built with `sdrt build demo --target cpu` gives another image")
    if state_of(packages) != before:
        raise DistError("`sdrt build demo` changed the installed package")
    trial.call("pip", "uninstall", "--quiet", "--yes", "sdrt")
    if left := state_of(packages):
        raise DistError(f"pip uninstall leaves {', '.join(map(str, left))}")
    return image


def state_of(packages: Path) -> dict[Path, int]:
    """The files and folders installed for sdrt with their last change, without bytecode."""
    return {
        path: 0 if path.is_dir() else path.stat().st_mtime_ns
        for entry in packages.glob("sdrt*")
        for path in [entry, *entry.rglob("*")]
        if path.suffix != ".pyc" and path.name != "__pycache__"
    }


def call(
    command: Sequence[str],
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    code: int = 0,
) -> str:
    """The output of a command; DistError with it if the exit code is not `code`."""
    outcome = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if outcome.returncode != code:
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
                    raise DistError(f"{python}: wheel and sdist generate different images")
                print(f"{python}: wheel and sdist install, generate, build and uninstall")
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
