"""sdrt on a target: `{"target": "openvino:bf16", "speed": "balanced"}`."""

from __future__ import annotations

import numpy as np
from protocol import Generate, Generation, Job, bytes_of, race

import sdrt


def open_pipeline(job: Job) -> Generate:
    pipeline = sdrt.Pipeline.open(  # the peers encode the prompt each time, too
        job.model, job.options["target"], num_threads=job.num_threads, text_cache=0
    )
    inputs = {
        "text": {},
        "image": {"image": job.image, "strength": job.strength},
        "control": {"control": {"edges": sdrt.Control(job.image)}},
    }[job.kind]

    def generate(generation: Generation) -> np.ndarray:
        stream = pipeline.stream(
            job.prompt,
            seed=0,
            num_inference_steps=generation.steps,
            guidance_scale=job.guidance_scale,
            speed=job.options["speed"],
            height=job.size,
            width=job.size,
            num_images_per_prompt=job.num_images,
            **inputs,
        )
        for step in stream:
            generation.end_step()
            if generation.over:
                stream.close()
                return step.latents
        generation.stages |= stream.result.timings.seconds
        generation.num_calls = stream.result.num_calls[0]
        return bytes_of(stream.result.images)

    return generate


if __name__ == "__main__":
    race(open_pipeline, ("sdrt", "onnxruntime", "openvino", "numpy"))
