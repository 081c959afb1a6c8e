"""One step of Stable Diffusion 1.5 on a CPU: its full-size UNet, batch 2, latents of 64×64.

Random weights cost the same as trained ones. Each engine runs in its own process, one after the
other. The processor time of all threads is recorded too: if it is far from the cores' share of the
wall time, other programs used the machine. Takes minutes, 8 GB of memory, 7 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from recording import Measurement, record

from sdrt_engines.packages import installed_versions

SHAPES = {
    "sample": (2, 4, 64, 64),
    "timestep": (2,),
    "encoder_hidden_states": (2, 77, 768),
}
TARGET = "at most 1 % of a step"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--onnx", type=Path, help="the exported UNet; default: export it")
    parser.add_argument(
        "--only", choices=sorted(CONTESTANTS), help="print the figures of one as JSON"
    )
    parser.add_argument("--num-threads", type=int, help="default: each library's choice")
    options = parser.parse_args()
    runs, num_threads = options.runs, options.num_threads
    if options.only:
        print(json.dumps(CONTESTANTS[options.only](options.onnx, runs, num_threads)))
        return
    with tempfile.TemporaryDirectory() as work:
        path = options.onnx or export_unet(Path(work))
        figures = {name: in_a_process(name, path, runs, num_threads) for name in CONTESTANTS}
    record("openvino_unet", [*measurements_of(figures, num_threads), overhead()])


def in_a_process(
    name: str, path: Path, runs: int, num_threads: int | None
) -> dict[str, list[float]]:
    command = [sys.executable, __file__, "--only", name, "--onnx", path, "--runs", str(runs)]
    if num_threads is not None:
        command += ["--num-threads", str(num_threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measurements_of(
    figures: dict[str, dict[str, list[float]]], num_threads: int | None
) -> list[Measurement]:
    reference = median(figures["sdrt cpu"]["steps"])
    packages = installed_versions("sdrt", "onnxruntime", "openvino", "torch", "diffusers")
    return [
        Measurement(
            name,
            "s",
            tuple(found["steps"]),
            packages,
            {
                "of sdrt cpu": round(median(found["steps"]) / reference, 3),
                "to open, with the first step": f"{found['first'][0]:.1f} s",
                "processor time": f"{median(found['processor']):.1f} s",
                "threads": num_threads or "default",
            },
        )
        for name, found in figures.items()
    ]


def export_unet(work: Path) -> Path:
    """Exports in a new process, as it takes the memory of the weights twice."""
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    program += f"from openvino_unet import write_unet; write_unet({str(work)!r})"
    subprocess.run([sys.executable, "-c", program], check=True)
    return work / "model.onnx"


def write_unet(folder: str) -> None:
    from sdrt_export.networks.unet import UNet
    from sdrt_export.tracing.onnx_from_network import write_onnx

    write_onnx(UNet(torch_unet()), Path(folder))


def torch_unet():
    import torch
    from diffusers import UNet2DConditionModel

    from sdrt_export.architectures import SD15

    torch.manual_seed(0)
    return UNet2DConditionModel(**SD15.unet).eval()


def feeds() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    values = {name: random.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}
    return values | {"timestep": np.full(2, 500, np.float32)}


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def steps_of(run: Callable[[], object], runs: int, start: float) -> dict[str, list[float]]:
    """`start` is when opening began; the first run, which may compile, is counted with it."""
    run()
    first = time.perf_counter() - start
    steps, processor = [], []
    for _ in range(runs):
        start = time.process_time()
        steps.append(timed(run))
        processor.append(time.process_time() - start)
    return {"first": [first], "steps": steps, "processor": processor}


def on_cpu(path: Path, runs: int, num_threads: int | None) -> dict[str, list[float]]:
    from sdrt_engines import engine_from_onnx

    start = time.perf_counter()
    with engine_from_onnx(path, num_threads=num_threads) as engine:
        return steps_of(lambda: engine.run(feeds()), runs, start)


def on_openvino(
    path: Path, runs: int, num_threads: int | None, *, precision: str
) -> dict[str, list[float]]:
    from sdrt_engines import openvino_engine_from_onnx

    start = time.perf_counter()
    with openvino_engine_from_onnx(path, precision=precision, num_threads=num_threads) as engine:
        return steps_of(lambda: engine.run(feeds()), runs, start)


def on_openvino_alone(
    path: Path, runs: int, num_threads: int | None, *, hint: str, cached: bool = False
) -> dict[str, list[float]]:
    """Compiled for this shape only, at once or from OpenVINO's cache of compiled networks."""
    import openvino

    start = time.perf_counter()
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({name: list(shape) for name, shape in SHAPES.items()})
    options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    if num_threads is not None:
        options["INFERENCE_NUM_THREADS"] = str(num_threads)
    if cached:
        options["CACHE_DIR"] = str(path.parent / "cache")
        core.compile_model(model, "CPU", options)  # fills the cache
        start = time.perf_counter()
    request = core.compile_model(model, "CPU", options).create_infer_request()
    return steps_of(lambda: request.infer(feeds(), share_inputs=True), runs, start)


def on_torch(path: Path, runs: int, num_threads: int | None) -> dict[str, list[float]]:
    import torch

    if num_threads is not None:
        torch.set_num_threads(num_threads)
    unet = torch_unet()
    values = {name: torch.from_numpy(array) for name, array in feeds().items()}
    start = time.perf_counter()
    with torch.inference_mode():
        return steps_of(lambda: unet(**values), runs, start)


CONTESTANTS = {
    "sdrt cpu": on_cpu,
    "sdrt openvino": partial(on_openvino, precision="fp32"),
    "sdrt openvino:bf16": partial(on_openvino, precision="bf16"),
    "openvino alone, for this shape": partial(on_openvino_alone, hint="f32"),
    "openvino alone, bf16, for this shape": partial(on_openvino_alone, hint="bf16"),
    "openvino alone, bf16, from its cache": partial(on_openvino_alone, hint="bf16", cached=True),
    "torch float32": on_torch,
}


def overhead() -> Measurement:
    """The overhead of our engine per run: a network with a UNet's tensors and almost no work,
    through the engine and through OpenVINO alone, in turns.
    """
    import onnx
    import openvino
    from onnx import TensorProto, helper

    from sdrt_engines import openvino_engine_from_onnx

    tensors = {
        name: helper.make_tensor_value_info(
            name, TensorProto.FLOAT, [f"{name}{i}" for i, _ in enumerate(shape)]
        )
        for name, shape in SHAPES.items()
    }
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["a", "b", "c", "d"])
    node = helper.make_node("Relu", ["sample"], ["out"])
    graph = helper.make_graph([node], "relu", list(tensors.values()), [out])
    with tempfile.TemporaryDirectory() as work:
        path = Path(work, "model.onnx")
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
        values = feeds()
        model = openvino.Core().read_model(path)
        model.reshape({name: list(shape) for name, shape in SHAPES.items()})
        request = openvino.Core().compile_model(model, "CPU").create_infer_request()
        with openvino_engine_from_onnx(path) as engine:
            text = "encoder_hidden_states"
            pinned = values | {text: engine.pin(text, values[text])}
            differences = []
            for _ in range(2000):
                ours = timed(lambda: engine.run(pinned))
                alone = timed(lambda: request.infer(values, share_inputs=True))
                differences.append((ours - alone) * 1e6)
    packages = installed_versions("sdrt", "openvino")
    notes = {"target": TARGET, "compared with": "openvino alone"}
    return Measurement(
        "what our engine adds to a run", "µs", tuple(differences[200:]), packages, notes
    )


if __name__ == "__main__":
    main()
