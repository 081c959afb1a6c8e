"""The contestants, and the questions that each must answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["text", "image", "control"]


@dataclass(frozen=True)
class Contestant:
    """A way to run Stable Diffusion on a CPU: a peer's program in that peer's environment."""

    name: str
    environment: str
    model: str  # a folder of `models.py`
    precision: str  # of the computation: "fp32", "bf16", "int8" (GenAI: weights only), "fp16"
    options: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[Kind, ...] = ("text", "image")
    reads: tuple[str, ...] = ("",)  # the folders of the model that text to image reads
    time_limit: float = 900.0  # seconds of a process

    @property
    def program(self) -> str:
        return f"with_{self.environment.replace('-', '_')}.py"

    @property
    def ours(self) -> bool:
        return self.environment == "sdrt"


@dataclass(frozen=True)
class Question:
    """The task of a process: an image of `first_steps`, if any, then a measured one of `steps`."""

    name: str
    steps: int
    first_steps: int = 1
    kind: Kind = "text"
    num_images: int = 1
    decode: bool = True  # if not, the process ends with the last step
    guidance_scale: float = 7.5


SHORT = Question("4 steps", steps=4)
LONG = Question("20 steps", steps=20)
FURTHER = (
    Question("image to image", steps=4, first_steps=2, kind="image"),  # at strength 0.5: 2 steps
    Question("ControlNet", steps=2, kind="control"),
    Question("batch of 2", steps=2, num_images=2),
    Question("batch of 4", steps=2, num_images=4),
)
EXPORTED = ("text_encoder", "unet", "vae_decoder")
NUM_ROUNDS = 3  # of SHORT, for everyone
NUM_LONG = 4  # the number of fastest contestants for LONG
NUM_FURTHER = 2  # the number of fastest peers for FURTHER, with our targets


def ours(target: str, precision: str, *built: str, speed: str = "exact") -> Contestant:
    """A target of sdrt, which reads the folders `built` in place of exported ones."""
    kinds: tuple[Kind, ...] = ("text", "image", "control")
    names = {Path(folder).name: folder for folder in (*EXPORTED, *built)}
    name = f"sdrt {target}" + (f" `--speed {speed}`" if speed != "exact" else "")
    options, reads = {"target": target, "speed": speed}, (*names.values(),)
    return Contestant(name, "sdrt", "bundle", precision, options, kinds, reads)


def on_torch(precision: str, *, compiled: bool = False) -> Contestant:
    kinds: tuple[Kind, ...] = ("text", "image", "control")
    name = f"diffusers {precision}" + (", torch.compile" if compiled else "")
    options = {"dtype": {"fp32": "float32", "bf16": "bfloat16"}[precision], "compile": compiled}
    return Contestant(name, "diffusers", "checkpoint", precision, options, kinds)


def genai(name: str, model: str, precision: str, hint: str) -> Contestant:
    options = {"precision": hint}
    return Contestant(f"OpenVINO GenAI {name}", "openvino-genai", model, precision, options)


CONTESTANTS: Sequence[Contestant] = (
    ours("cpu", "fp32", *(f"engines/cpu/{name}" for name in EXPORTED)),
    ours("openvino", "fp32"),
    ours("openvino:bf16", "bf16"),
    ours("openvino:int8", "int8", "engines/int8/unet"),
    genai("f32", "openvino", "fp32", "f32"),
    genai("bf16", "openvino", "bf16", "bf16"),
    genai("int8", "openvino-int8", "int8", "bf16"),
    Contestant("optimum-onnx", "optimum-onnx", "optimum-onnx", "fp32"),
    Contestant("optimum-intel bf16", "optimum-intel", "openvino", "bf16", {"precision": "bf16"}),
    on_torch("fp32"),
    on_torch("bf16"),
    on_torch("bf16", compiled=True),
    Contestant(
        "stable-diffusion.cpp f16",
        "stable-diffusion-cpp",
        "checkpoint",
        "fp16",
        kinds=("text",),
        time_limit=240.0,
    ),
)
SAVING = tuple(
    Question(f"20 steps at guidance {scale:g}", steps=20, guidance_scale=scale)
    for scale in (2.0, 7.5)
)
NUM_SAVING_ROUNDS = 2
SAVING_CONTESTANTS: Sequence[Contestant] = (
    ours("openvino:bf16", "bf16", speed="balanced"),
    ours("openvino:int8", "int8", "engines/int8/unet", speed="fast"),
    genai("bf16", "openvino", "bf16", "bf16"),
    genai("int8", "openvino-int8", "int8", "bf16"),
)
SDXL_STEPS = Question("2 steps", steps=2, first_steps=0, decode=False)
SDXL_CONTESTANTS: Sequence[Contestant] = (
    on_torch("fp32"),
    on_torch("bf16"),
    ours("cpu", "fp32"),
    ours("openvino", "fp32"),
    ours("openvino:bf16", "bf16"),
    genai("f32", "openvino", "fp32", "f32"),
    genai("bf16", "openvino", "bf16", "bf16"),
)
ORACLE = "diffusers fp32"  # the reference for the others' images
PRECISIONS = {contestant.name: contestant.precision for contestant in CONTESTANTS}
