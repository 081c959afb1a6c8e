"""The size of `pip install sdrt` on disk, compared with diffusers' for the same job.

Both go into new, empty environments; the sum of the files that pip installs is counted, without
compiled bytecode and without pip itself.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path

from recording import Measurement, record

from sdrt_engines.packages import installed_versions

HOUSE = Path(__file__).parent.parent
PEERS = ("torch", "diffusers", "transformers", "accelerate")


def main() -> None:
    work = HOUSE / "bench" / "scratch"
    work.mkdir(parents=True, exist_ok=True)
    lean = installed("sdrt", [str(HOUSE)], work)
    peers = [f"{name}=={version}" for name, version in installed_versions(*PEERS).items()]
    theirs = installed(" + ".join(PEERS), peers, work)
    share = {"share": f"1/{theirs.median / lean.median:.1f}"}
    record("installed_size", [replace(lean, notes=share), theirs])


def installed(name: str, requirements: Sequence[str], work: Path) -> Measurement:
    """The size of an environment with these requirements and their dependencies."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        python = Path(folder) / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        subprocess.run([*pip, "--no-compile", *requirements], check=True)
        (site,) = Path(folder).glob("lib/python*/site-packages")
        num_bytes = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
        versions = {found.name: found.version for found in distributions(path=[str(site)])}
    return Measurement(name, "MB", (num_bytes / 1e6,), versions)


if __name__ == "__main__":
    main()
