"""The folders, the device and the rows of a run of the bench."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from recording import RESULTS, Measurement, machine, readable, row

from sdrt_engines.packages import installed_versions

CONTROLNET = "controlnet_edges"
NETWORKS = ("text_encoder", "vae_decoder", "unet", "vae_encoder", CONTROLNET)
LIBRARIES = ("sdrt", "onnxruntime-gpu", "onnxruntime", "torch", "diffusers", "onnx", "numpy")


@dataclass(frozen=True)
class Context:
    """One run: `work` holds the networks, `out` the results, `small` rehearses on the CPU.

    `networks` and `variants` select from the parts that offer a choice.
    """

    work: Path
    out: Path
    small: bool
    networks: tuple[str, ...] = NETWORKS
    variants: tuple[str, ...] = ()  # empty: all

    @property
    def device(self) -> str:
        return "cpu" if self.small else "cuda"

    @cached_property
    def _machine(self) -> dict[str, Any]:
        return machine() | ({} if self.small else gpu())

    @cached_property
    def _versions(self) -> dict[str, str]:
        return {name: text for name, text in installed_versions(*LIBRARIES).items() if text}

    def add(self, name: str, unit: str, values: Sequence[float], **notes: Any) -> None:
        """Writes and prints a row, at once: the machine may be gone in a minute."""
        measurement = Measurement(name, unit, tuple(values), self._versions, notes)
        date = datetime.now(UTC).isoformat(timespec="seconds")
        line = row("gpu", measurement) | {"date": date, "machine": self._machine}
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out / "gpu.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        noted = ", ".join(f"{key} {value}" for key, value in notes.items())
        print(f"  {name}: {readable(measurement.median)} {unit} | {noted}", flush=True)

    def await_export(self) -> None:
        """Returns when another process has written the ONNX files."""
        while not (self.work / "ready").exists():
            time.sleep(0.5)

    def attempt(self, name: str, function: Callable[[], object]) -> bool:
        """Runs the function; an error becomes a row, so that later measurements still run."""
        start = time.perf_counter()
        try:
            function()
        except Exception as error:
            message = " ".join(f"{type(error).__name__}: {error}".split())
            self.add(
                f"{name}, failed after", "s", [time.perf_counter() - start], error=message[:600]
            )
            if "--trace" in sys.argv:
                raise
            return False
        return True


def gpu() -> dict[str, str]:
    """The card's name, and the driver's version."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    name, driver = subprocess.check_output(command, text=True).splitlines()[0].split(", ")
    return {"gpu": name, "driver": driver}


def default_out(small: bool) -> Path:
    return RESULTS.parent / "scratch" if small else RESULTS
