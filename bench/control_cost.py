"""The cost of ControlNet per step: none if unused, and its parts if used.

Runs a bundle's engines in turn on the same random inputs, with guidance (two rows): the UNet; the
UNet that takes residuals, with zeros pinned; the ControlNet; and the part of the ControlNet that
depends only on the image, and would give the same at every step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import helper
from onnx.utils import Extractor
from recording import Measurement, record

import sdrt
from sdrt import tensor_names as names
from sdrt.targets.engines import open_engine
from sdrt.verification.seeded_inputs import BATCH, seeded_inputs
from sdrt_engines import Engine, engine_from_onnx
from sdrt_engines.packages import installed_versions

LAST_OF_EMBEDDING = "controlnet_cond_embedding.conv_out"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--controlnet", default="edges", help="its name in the bundle")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--num-threads", type=int, help="default: each library's choice")
    options = parser.parse_args()

    bundle = sdrt.Bundle.open(options.bundle)
    runs = runs_of(bundle, options.controlnet, options.num_threads)
    for run in runs.values():
        run()  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    size = bundle.family.native_size[1] // bundle.family.latents.vae_scale_factor
    unet = np.median(seconds["UNet"])
    measurements = [
        Measurement(
            name,
            "ms",
            tuple(1000 * value for value in values),
            installed_versions("sdrt", "onnxruntime"),
            {
                "latents": f"{size}×{size}",
                "rows": BATCH,
                "threads": options.num_threads or "default",
                "of the UNet": round_ratio(values, unet),
            },
        )
        for name, values in seconds.items()
    ]
    record("control_cost", measurements)


def round_ratio(values: list[float], unet: float) -> float:
    return round(float(np.median(values) / unet), 4)


def runs_of(
    bundle: sdrt.Bundle, controlnet: str, num_threads: int | None
) -> dict[str, Callable[[], object]]:
    """The timed functions, by name. Zeros are pinned, as in real use."""
    net_name = names.controlnet(controlnet)
    plain, controlled, net = (
        open_engine(bundle, name, "cpu", num_threads=num_threads)
        for name in (names.UNET, names.UNET_CONTROLLED, net_name)
    )
    embedding = embedding_engine(bundle, net_name, num_threads)
    feeds = seeded_inputs(bundle, net_name)
    image = {names.CONTROLNET_COND: feeds[names.CONTROLNET_COND]}
    denoised = {spec.name: feeds[spec.name] for spec in plain.signature.inputs}
    zeros = {
        name: controlled.pin(name, feeds[names.earlier(name)])
        for name in (spec.name for spec in net.signature.outputs)
    }
    of_net = {
        name: net.pin(name, feed) if names.is_residual(name) else feed
        for name, feed in feeds.items()
    }
    return {
        "UNet": lambda: plain.run(denoised),
        "UNet with residuals of zero": lambda: controlled.run({**denoised, **zeros}),
        "ControlNet": lambda: net.run(of_net),
        "its embedding of the image": lambda: embedding.run(image),
    }


def embedding_engine(bundle: sdrt.Bundle, net_name: str, num_threads: int | None) -> Engine:
    """The part of a ControlNet's graph from the image to its last convolution before the sum."""
    model = onnx.load(bundle.root / bundle.component(net_name).model)
    end = next(
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Conv" and any(LAST_OF_EMBEDDING in name for name in node.input)
    )
    shape = ("batch", "channels", "rows", "columns")
    model.graph.value_info.append(helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, shape))
    part = Extractor(model).extract_model([names.CONTROLNET_COND], [end])
    with TemporaryDirectory() as folder:
        path = Path(folder, "embedding.onnx")
        onnx.save(part, path)
        return engine_from_onnx(path, num_threads=num_threads)


if __name__ == "__main__":
    main()
