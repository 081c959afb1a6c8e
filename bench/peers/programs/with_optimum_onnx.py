"""optimum-onnx: diffusers' pipelines on ONNX Runtime."""

from __future__ import annotations

from diffusers_like import generate_with
from onnxruntime import SessionOptions
from optimum.onnxruntime import ORTStableDiffusionImg2ImgPipeline, ORTStableDiffusionPipeline
from protocol import Generate, Job, race

PIPELINES = {"text": ORTStableDiffusionPipeline, "image": ORTStableDiffusionImg2ImgPipeline}


def open_pipeline(job: Job) -> Generate:
    options = SessionOptions()
    options.intra_op_num_threads = job.num_threads
    pipe = PIPELINES[job.kind].from_pretrained(job.model, session_options=options)
    return generate_with(pipe, job)


if __name__ == "__main__":
    race(open_pipeline, ("optimum-onnx", "optimum", "onnxruntime", "diffusers", "torch", "numpy"))
