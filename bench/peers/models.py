"""Stable Diffusion 1.5 and SDXL at full size with seeded random weights, in each peer's own format.

One checkpoint is generated; every other folder is exported from it by the tool of the peer's users.
A folder appears complete, and is created once.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from peers.environments import python_of

SD15 = (
    "from sdrt_export.architectures import SD15; "
    "from sdrt_export.synthetic import make_checkpoint, make_controlnet; "
)
EULER = (
    "import sys; from pathlib import Path; from diffusers import EulerDiscreteScheduler; "
    + SD15
    + "folder = make_checkpoint(Path(sys.argv[1])); "
    "config = {**SD15.scheduler, 'timestep_spacing': 'leading'}; "
    "EulerDiscreteScheduler.from_config(config).save_pretrained(folder / 'scheduler')"
)
SDXL = (
    "import sys; from pathlib import Path; from sdrt_export.architectures import SDXL; "
    "from sdrt_export.synthetic import make_checkpoint; make_checkpoint(Path(sys.argv[1]), SDXL)"
)
CONTROLNET = "import sys; from pathlib import Path; " + SD15 + "make_controlnet(Path(sys.argv[1]))"

INPUTS = """
import sys; from pathlib import Path
import numpy as np, torch
from PIL import Image, ImageDraw
folder = Path(sys.argv[1])
folder.mkdir()
side = int(sys.argv[2])
draws = [torch.randn(4, side, side, generator=torch.Generator().manual_seed(i)) for i in range(8)]
np.save(folder / "noise.npy", torch.stack(draws).numpy())
image = Image.new("RGB", (512, 512), "black")
ImageDraw.Draw(image).rectangle((128, 96, 384, 416), outline="white", width=3)
image.save(folder / "image.png")
"""


def inputs(work: Path, folder: Path) -> None:
    """The initial noise of image i, and an outline image, for ControlNet and image to image."""
    run(sys.executable, "-c", INPUTS, folder, 64)


def sdxl_inputs(work: Path, folder: Path) -> None:
    run(sys.executable, "-c", INPUTS, folder, 128)


def sdxl_checkpoint(work: Path, folder: Path) -> None:
    run(sys.executable, "-c", SDXL, folder)


def sdxl_bundle(work: Path, folder: Path) -> None:
    run(sys.executable, "-m", "sdrt", "export", work / "checkpoint", "-o", folder)


def checkpoint(work: Path, folder: Path) -> None:
    """A diffusers folder whose scheduler is Euler's."""
    run(sys.executable, "-c", EULER, folder)
    path = folder / "model_index.json"
    index = json.loads(path.read_text()) | {"scheduler": ["diffusers", "EulerDiscreteScheduler"]}
    path.write_text(json.dumps(index, indent=2))


def controlnet(work: Path, folder: Path) -> None:
    run(sys.executable, "-c", CONTROLNET, folder)


def bundle(work: Path, folder: Path) -> None:
    """sdrt's, with a ControlNet, prepared for this machine's processor, and with a UNet in int8."""
    nets = f"edges={work / 'controlnet'}"
    run(
        sys.executable,
        "-m",
        "sdrt",
        "export",
        work / "checkpoint",
        "--controlnet",
        nets,
        "-o",
        folder,
    )
    run(sys.executable, "-m", "sdrt", "build", folder, "--target", "cpu", "-q")
    run(sys.executable, "-m", "sdrt", "build", folder, "--precision", "int8", "-q")


def optimum_onnx(work: Path, folder: Path) -> None:
    cli = python_of(work.parent, "optimum-onnx").with_name("optimum-cli")
    run(cli, "export", "onnx", "-m", work / "checkpoint", "--task", "text-to-image", folder)


def openvino(work: Path, folder: Path) -> None:
    export_openvino(work, folder, "fp16")


def openvino_int8(work: Path, folder: Path) -> None:
    export_openvino(work, folder, "int8")


def export_openvino(work: Path, folder: Path, weights: str) -> None:
    cli = python_of(work.parent, "optimum-intel").with_name("optimum-cli")
    source = ("-m", work / "checkpoint", "--task", "text-to-image")
    run(cli, "export", "openvino", *source, "--weight-format", weights, folder)


MODELS: dict[str, Callable[[Path, Path], None]] = {
    "inputs": inputs,
    "checkpoint": checkpoint,
    "controlnet": controlnet,
    "bundle": bundle,
    "optimum-onnx": optimum_onnx,
    "openvino": openvino,
    "openvino-int8": openvino_int8,
}


SDXL_MODELS: dict[str, Callable[[Path, Path], None]] = {
    "inputs": sdxl_inputs,
    "checkpoint": sdxl_checkpoint,
    "bundle": sdxl_bundle,
    "openvino": openvino,
}


def make_models(work: Path, models: Mapping[str, Callable[[Path, Path], None]] = MODELS) -> None:
    """Creates the missing ones in `work`."""
    work.mkdir(exist_ok=True)
    for name, make in models.items():
        folder, draft = work / name, work / f"{name}.draft"
        if not folder.exists():
            print(f"creating the model {name}", flush=True)
            shutil.rmtree(draft, ignore_errors=True)
            make(work, draft)
            draft.rename(folder)


def run(*command: object) -> None:
    subprocess.run([*map(str, command)], check=True)
