"""Encoding of prompts in A1111's syntax: time by the number of chunks, with and without the cache,
and the cache's memory.

A process measures a bundle: by default Stable Diffusion 1.5 at full size with random weights. Times
are from the request to the states that the denoiser reads: parsed, tokenized, encoded, weighted.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from build_full_size import synthetic_bundle
from recording import Measurement, alone_on_the_machine, record

import sdrt
from sdrt.ask import Ask
from sdrt.targets.evaluation import evaluate
from sdrt_engines import resident_memory
from sdrt_engines.packages import installed_versions

CHUNKS = (1, 2, 4)
WORDS = "a (photograph:1.2) of an [astronaut] riding a horse, highly detailed, "
PROMPTS_IN_THE_CACHE = 1000
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", type=Path, help="default: made of random weights")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, alone_on_the_machine():
        bundle = options.bundle or synthetic_bundle(Path(work))
        notes = {"target": options.target, "bundle": str(bundle.name)}
        rows = [*times(bundle, options.target, options.rounds), *memory(bundle, options.target)]
        versions = installed_versions("sdrt", "onnxruntime", "openvino")
        record(
            "prompt_encoding",
            [
                Measurement(name, unit, tuple(values), versions, {**notes, **more})
                for name, unit, values, more in rows
            ],
        )


def times(
    bundle: Path, target: str, num_rounds: int
) -> Iterator[tuple[str, str, list[float], dict[str, Any]]]:
    """Seconds of each prompt, all prompts in turns; the plain prompt is what to compare with."""
    requests = {"plain": request(WORDS, syntax="plain")}
    requests |= {f"{count} chunk{'s' * (count > 1)}": request(of_chunks(count)) for count in CHUNKS}
    for cached in (False, True):
        cache = {} if cached else {"text_cache": 0}
        with sdrt.Pipeline.open(bundle, target, **cache) as pipe:
            rounds = [
                {name: seconds_to_encode(pipe, each) for name, each in requests.items()}
                for _ in range(2 + num_rounds)
            ][2:]
        plain = median(each["plain"] for each in rounds)
        for name in requests:
            values = [each[name] for each in rounds]
            more = {"from the cache": cached, "ratio to plain": round(median(values) / plain, 2)}
            yield (f"{name}{', from the cache' if cached else ''}", "s", values, more)


def of_chunks(count: int) -> str:
    return " BREAK ".join(f"{number} {WORDS}" for number in range(count))


def request(prompt: str, syntax: Any = "a1111") -> sdrt.Request:
    return sdrt.Request(prompt, negative_prompt="blurry", prompt_syntax=syntax, seed=0)


def seconds_to_encode(pipe: sdrt.Pipeline, request: sdrt.Request) -> float:
    """From a request to its first ask of the denoiser."""
    start = time.perf_counter()
    events = pipe.generation(request).events()
    event = next(events)
    while isinstance(event, Ask) and event.chain[-1].component.startswith("text_encoder"):
        event = events.send(evaluate(event, pipe.engines))
    return time.perf_counter() - start


def memory(bundle: Path, target: str) -> Iterator[tuple[str, str, list[float], dict[str, Any]]]:
    """The memory that many different prompts leave behind, with the cache and without it."""
    for size in (None, 0):
        cache = {} if size is None else {"text_cache": size}
        with sdrt.Pipeline.open(bundle, target, **cache) as pipe:
            for number in range(20):  # what engines keep for their runs
                seconds_to_encode(pipe, request(f"{number} {number}"))
            before = resident_memory() or 0
            for number in range(PROMPTS_IN_THE_CACHE):
                seconds_to_encode(pipe, request(f"{number} {WORDS}"))
            gc.collect()
            grown = ((resident_memory() or 0) - before) / MIB
            name = "without the cache" if size == 0 else "the cache"
            more = {"prompts": PROMPTS_IN_THE_CACHE, "bound, MiB": pipe._texts.max_bytes / MIB}
            yield f"memory after many prompts: {name}", "MiB", [grown], more


if __name__ == "__main__":
    main()
