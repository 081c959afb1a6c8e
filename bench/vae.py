"""The time of the VAE's networks, a tiny VAE's among them, in steps of the UNet with guidance.

All networks of a target are open in one process and run in turn. Each round gives a ratio. Takes
minutes and up to 8 GB of memory.

    python bench/vae.py BUNDLE
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from recording import Measurement, alone_on_the_machine, record

from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Component
from sdrt.targets.engines import open_engine
from sdrt_engines import Array, Engine
from sdrt_engines.packages import installed_versions

ROLES = ("denoiser", "vae encoder", "vae decoder")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--targets", nargs="+", default=["cpu", "openvino", "openvino:bf16"])
    parser.add_argument("--size", type=int, default=512, help="of the image, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with alone_on_the_machine():
        for target in options.targets:
            bundle = Bundle.open(options.bundle)
            record("vae", measured(bundle, target, options.size, options.rounds))


def measured(bundle: Bundle, target: str, size: int, rounds: int) -> list[Measurement]:
    networks = {
        name: component
        for name, component in bundle.components.items()
        if component.role in ROLES and not component.takes
    }
    side = size // bundle.family.latents.vae_scale_factor
    feeds = {
        name: feeds_of(component, size if component.role == "vae encoder" else side)
        for name, component in networks.items()
    }
    times: dict[str, list[float]] = {name: [] for name in networks}
    with ExitStack() as stack:
        engines = {
            name: stack.enter_context(open_engine(bundle, name, target)) for name in networks
        }
        for number in range(rounds + 1):
            for name, engine in engines.items():
                taken = seconds(engine, feeds[name])
                times[name] += [taken] if number else []  # the first run packs weights
    (unet,) = (name for name, component in networks.items() if component.role == "denoiser")
    return [
        Measurement(
            f"{name}, {target}, {size}×{size}",
            "s",
            tuple(taken),
            installed_versions("sdrt", "onnxruntime", "openvino", "numpy"),
            {"steps": round(statistics.median(map(ratio, taken, times[unet])), 3)},
        )
        for name, taken in times.items()
    ]


def ratio(taken: float, step: float) -> float:
    return taken / step


def feeds_of(component: Component, side: int) -> Mapping[str, Array]:
    rows = 2 if component.role == "denoiser" else 1  # with guidance
    sizes = {"batch": rows, "height": side, "width": side, "sequence": 77}
    random = np.random.default_rng(0)
    return {
        spec.name: random.standard_normal([sizes.get(dim, dim) for dim in spec.shape], np.float32)
        for spec in component.signature.inputs
    }


def seconds(engine: Engine, feeds: Mapping[str, Array]) -> float:
    start = time.perf_counter()
    engine.run(feeds)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
