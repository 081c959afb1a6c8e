"""The cost of one denoising step outside of the engines, at 512×512 with guidance, batch 1.

The engines are functions that return at once, so only sdrt's own work remains: the sampler,
guidance, the check for NaN, and checking the feeds. The cost of a step is the slope between a short
and a long request, which excludes the work that is done once per request.
"""

from __future__ import annotations

import argparse

import numpy as np
from recording import Measurement, record

import sdrt
from sdrt_engines import FunctionEngine, Signature, resolve_target, shape_at
from sdrt_engines.packages import installed_versions

SCHEDULERS = ("euler", "dpmpp_2m", "ddim", "unipc")
SHORT, LONG = 10, 110  # steps
TARGET_MS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds

    pipeline = pipeline_without_networks()
    measurements = []
    for scheduler in SCHEDULERS:
        milliseconds_per_step(pipeline, scheduler)  # warm-up
        values = tuple(milliseconds_per_step(pipeline, scheduler) for _ in range(rounds))
        notes = {"target": f"at most {TARGET_MS} ms", "latents": "4×64×64", "guidance": 7.5}
        measurements.append(
            Measurement(
                f"{scheduler}, one step", "ms", values, installed_versions("sdrt", "numpy"), notes
            )
        )
    record("host_time", measurements)


def milliseconds_per_step(pipeline: sdrt.Pipeline, scheduler: str) -> float:
    """The slope of a request's host time over its steps."""
    short, long = (
        pipeline(
            "a red circle",
            height=512,
            width=512,
            num_inference_steps=num_steps,
            guidance_scale=7.5,
            scheduler=scheduler,
            seed=0,
        ).timings.host
        for num_steps in (SHORT, LONG)
    )
    return (long - short) / (LONG - SHORT) * 1000


def pipeline_without_networks() -> sdrt.Pipeline:
    """The demo bundle's pipeline, its networks replaced by functions that return a constant."""
    bundle = sdrt.Bundle.open("demo")
    engines = {
        component.name: FunctionEngine(component.signature, constant(component.signature))
        for component in bundle.manifest.components
    }
    return sdrt.Pipeline(bundle, resolve_target("cpu"), engines)


def constant(signature: Signature):
    """A function with that signature whose outputs are 0.5 everywhere."""
    cache: dict[tuple[int, ...], dict[str, np.ndarray]] = {}

    def answer(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        shapes = tuple(feed.shape for feed in feeds.values())
        if shapes not in cache:
            sizes = {
                dimension: size
                for spec in signature.inputs
                for dimension, size in zip(spec.shape, feeds[spec.name].shape, strict=True)
                if isinstance(dimension, str)
            }
            cache[shapes] = {
                spec.name: np.full(shape_at(spec, sizes), 0.5, spec.dtype)
                for spec in signature.outputs
            }
        return cache[shapes]

    return answer


if __name__ == "__main__":
    main()
