"""Stable Diffusion 1.5 on an NVIDIA GPU: correctness, speed, and a profile.

Full-size networks with seeded random weights. Parts run in the order given, each in under four
minutes; `--small` rehearses all of them on the CPU with small networks. The first two create the
inputs of the others: weights on the GPU, ONNX files on the CPU. Needs torch and diffusers.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from gpu_bench.context import NETWORKS, Context, default_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", help="one or more of them; default: all")
    parser.add_argument("--work", type=Path, default=Path("bench/scratch/gpu"), help="for networks")
    parser.add_argument("--out", type=Path, help="for results; default: bench/results")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="default: all")
    parser.add_argument("--variant", action="append", help="of the part `variants`; default: all")
    parser.add_argument("--small", action="store_true", help="rehearse on the CPU")
    parser.add_argument("--trace", action="store_true", help="end at the first error")
    options = parser.parse_args()
    if not options.small and not shutil.which("nvidia-smi"):
        print("there is no NVIDIA GPU here, so nothing is measured: rehearse with --small")
        return
    context = Context(
        options.work,
        options.out or default_out(options.small),
        options.small,
        tuple(options.network or NETWORKS),
        tuple(options.variant or ()),
    )
    context.work.mkdir(parents=True, exist_ok=True)
    from gpu_bench.parts import PARTS

    for name in options.part or PARTS:
        start = time.perf_counter()
        print(f"{name}:", flush=True)
        context.attempt(name, lambda part=PARTS[name]: part(context))
        print(f"{name} took {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
