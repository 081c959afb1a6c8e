"""diffusers on torch: `{"dtype": "bfloat16", "compile": true}`."""

from __future__ import annotations

import torch
from diffusers import (
    ControlNetModel,
    DiffusionPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
)
from diffusers_like import generate_with
from protocol import Generate, Job, race

PIPELINES = {
    "text": DiffusionPipeline,  # the class that the checkpoint names
    "image": StableDiffusionImg2ImgPipeline,
    "control": StableDiffusionControlNetPipeline,
}


def open_pipeline(job: Job) -> Generate:
    torch.set_num_threads(job.num_threads)
    dtype = getattr(torch, job.options["dtype"])
    parts = {"dtype": dtype}
    if job.kind == "control":
        parts["controlnet"] = ControlNetModel.from_pretrained(job.controlnet, dtype=dtype)
    pipe = PIPELINES[job.kind].from_pretrained(job.model, **parts)
    if job.options.get("compile"):
        pipe.unet = torch.compile(pipe.unet)
        pipe.vae.decoder = torch.compile(pipe.vae.decoder)
    return generate_with(pipe, job)


if __name__ == "__main__":
    race(open_pipeline, ("diffusers", "torch", "transformers", "numpy"))
