"""The time of the VAE's networks, a tiny VAE's among them, in steps of the UNet with guidance.

All networks of a target are open in one process and run in turn. Each round gives a ratio. Takes
minutes and up to 8 GB of memory.

    python bench/vae.py BUNDLE
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import ExitStack
from pathlib import Path

from recording import Measurement, alone_on_the_machine, record
from timed_runs import seconds

from sdrt.bundle.folder import Bundle
from sdrt.targets.engines import open_engine
from sdrt.verification.seeded_inputs import seeded_inputs
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
    latents = size // bundle.family.latents.vae_scale_factor
    feeds = {
        name: seeded_inputs(bundle, name, latents=latents)
        for name, component in bundle.components.items()
        if component.role in ROLES and not component.takes
    }
    with ExitStack() as stack:
        engines = {name: stack.enter_context(open_engine(bundle, name, target)) for name in feeds}
        for name, engine in engines.items():
            engine.run(feeds[name])  # packs its weights
        times = [
            {name: seconds(engine, feeds[name]) for name, engine in engines.items()}
            for _ in range(rounds)
        ]
    unet = bundle.name_of("denoiser")
    return [
        Measurement(
            f"{name}, {target}, {size}×{size}",
            "s",
            tuple(each[name] for each in times),
            installed_versions("sdrt", "onnxruntime", "openvino", "numpy"),
            {"steps": round(statistics.median(each[name] / each[unet] for each in times), 3)},
        )
        for name in feeds
    ]


if __name__ == "__main__":
    main()
