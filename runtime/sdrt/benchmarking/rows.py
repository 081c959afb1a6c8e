"""The rows of a measurement: each figure with everything that it depends on, as JSON lines."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sdrt
from sdrt.benchmarking.figures import Figure, row_of
from sdrt.benchmarking.workload import SETTINGS, Workload
from sdrt.bundle.folder import Bundle
from sdrt.errors import SdrtError
from sdrt_engines import Target, backend_of
from sdrt_engines.nvidia_driver import gpus
from sdrt_engines.packages import installed_versions
from sdrt_engines.processor import this_processor, usable_cores


@dataclass(frozen=True)
class Context:
    """The facts that all figures of a measurement share."""

    bundle: Mapping[str, str]
    settings: Mapping[str, Any]  # of the request
    machine: Mapping[str, Any]
    date: str  # ISO 8601

    def row(self, figure: Figure) -> dict[str, Any]:
        """The figure as the object of a JSON line."""
        return {
            "bench": "sdrt bench",
            **row_of(figure),
            "settings": self.settings,
            "bundle": self.bundle,
            "versions": versions_of(figure.target),
            "machine": self.machine,
            "date": self.date,
        }


def context_of(workload: Workload, bundle: Bundle) -> Context:
    """The current facts of this machine and workload; the request must have no None left."""
    settings = {field: getattr(workload.request, field) for field in SETTINGS}
    settings["scheduler"] = settings["scheduler"] or bundle.scheduler_config["_class_name"]
    settings |= {"num_threads": workload.num_threads, "warmup": workload.warmup}
    return Context(
        bundle={"name": workload.bundle, "digest": json.loads(bundle.manifest.to_json())["digest"]},
        settings=settings,
        machine=machine(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def machine() -> dict[str, Any]:
    """The hardware that the figures are measured on; without `gpus` if there is no GPU."""
    found = {
        "processor": this_processor().name,
        "cores": usable_cores(),
        "system": platform.system(),
        "python": platform.python_version(),
        "gpus": [gpu.name for gpu in gpus()],
    }
    return {name: value for name, value in found.items() if value != []}


def versions_of(ran_on: str) -> dict[str, str]:
    """The versions of sdrt and of the packages of the target that ran."""
    target = Target.parse(ran_on.split()[0])  # of "cpu (after openvino: …)"
    packages = installed_versions(*backend_of(target).packages)
    return {"sdrt": sdrt.__version__, **packages}


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Appends a line to a file of JSON lines. SdrtError if it cannot be written."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    except OSError as error:
        raise SdrtError(
            f"cannot write '{path}': {error.strerror}: choose another place with --json"
        ) from error
