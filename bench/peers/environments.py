"""A virtual environment for each peer, created once from `requirements/<name>.txt`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REQUIREMENTS = HERE / "requirements"
STAMP = "ingredients.txt"


def python_of(work: Path, name: str) -> Path:
    """The interpreter of a peer's environment."""
    return work / "environments" / name / "bin" / "python"


def make_environments(work: Path) -> None:
    """Creates the missing ones, and those whose ingredients have changed."""
    for path in sorted(REQUIREMENTS.glob("*.txt")):
        stamp = work / "environments" / path.stem / STAMP
        wanted = ingredients(path)
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            print(f"creating the environment {path.stem}", flush=True)
            make_environment(python_of(work, path.stem), path)
            stamp.write_text(wanted, encoding="utf-8")


def measured_commit(work: Path) -> str:
    """The commit of sdrt that is installed in its environment."""
    stamp = work / "environments" / "sdrt" / STAMP
    return stamp.read_text(encoding="utf-8").splitlines()[-1]


def ingredients(requirements: Path) -> str:
    """The ingredients of an environment; sdrt's own also depends on a commit."""
    text = requirements.read_text(encoding="utf-8")
    return f"{text}{sdrt_commit()}\n" if requirements.stem == "sdrt" else text


def make_environment(python: Path, requirements: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", python.parents[1]], check=True)
    install = [python, "-m", "pip", "install", "--quiet", "--no-compile", "-r", requirements]
    subprocess.run(install, check=True, cwd=ROOT)
    remove_broken_torchvision(python)


def remove_broken_torchvision(python: Path) -> None:
    """Uninstalls torchvision if it was built for another torch: no peer needs it, but transformers
    imports it if it is installed."""
    test = subprocess.run([python, "-c", "import torchvision"], capture_output=True, check=False)
    if test.returncode:
        pip = [python, "-m", "pip", "--quiet", "uninstall", "--yes", "torchvision"]
        subprocess.run(pip, check=True, capture_output=True)


def sdrt_commit() -> str:
    """The commit of the working tree, marked if it has uncommitted changes."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
