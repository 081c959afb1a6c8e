"""optimum-intel: diffusers' pipelines on OpenVINO. `{"precision": "bf16"}`."""

from __future__ import annotations

from diffusers_like import generate_with
from optimum.intel import OVStableDiffusionImg2ImgPipeline, OVStableDiffusionPipeline
from protocol import Generate, Job, race

PIPELINES = {"text": OVStableDiffusionPipeline, "image": OVStableDiffusionImg2ImgPipeline}


def open_pipeline(job: Job) -> Generate:
    config = {
        "INFERENCE_PRECISION_HINT": job.options["precision"],
        "INFERENCE_NUM_THREADS": str(job.num_threads),
        "PERFORMANCE_HINT": "LATENCY",
        "CACHE_DIR": "",
    }
    pipe = PIPELINES[job.kind].from_pretrained(job.model, ov_config=config, compile=False)
    pipe.reshape(1, job.size, job.size, job.num_images)
    pipe.compile()
    return generate_with(pipe, job)


if __name__ == "__main__":
    race(open_pipeline, ("optimum-intel", "openvino", "diffusers", "torch", "numpy"))
