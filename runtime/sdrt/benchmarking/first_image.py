"""A process that opens a bundle, perhaps warms up, generates one image, and reports its progress.

Run by `cold_start`, which takes the time: each line of the output is an event as JSON, written when
it happens. Imports count, so this file imports only what a product imports.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import sdrt


def main(arguments: dict[str, Any]) -> None:
    """Writes the events `ready`, `first step` and `first image`; the last reports the memory."""
    with sdrt.Pipeline.open(**arguments["open"]) as pipeline:
        if arguments["warm_up"]:
            pipeline.warm_up(**arguments["warm_up"])
        _write("ready")
        stream = pipeline.stream(sdrt.Request(**arguments["request"]))
        for step in stream:
            if step.index == 0:
                _write("first step")
        _write("first image", target=stream.result.engine, **_memory())


def _memory() -> dict[str, int | None]:
    """Bytes; read before anything is closed."""
    from sdrt_engines.nvidia_driver import memory_in_use
    from sdrt_engines.operating_system import peak_memory

    return {"peak memory": peak_memory(), "GPU memory": memory_in_use()}


def _write(event: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except sdrt.SdrtError as error:
        _write("error", message=str(error))
        sys.exit(1)
    except KeyboardInterrupt:  # the terminal sends it to both processes; the parent reports it
        sys.exit(130)
