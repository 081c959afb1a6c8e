"""sdrt on a target: `{"target": "openvino:bf16"}`."""

from __future__ import annotations

import numpy as np
from protocol import Draw, Drawing, Job, bytes_of, race

import sdrt


def open_pipeline(job: Job) -> Draw:
    pipeline = sdrt.Pipeline.open(job.model, job.options["target"], num_threads=job.num_threads)
    inputs = {
        "text": {},
        "image": {"image": job.image, "strength": job.strength},
        "control": {"control": {"edges": sdrt.Control(job.image)}},
    }[job.kind]

    def draw(drawing: Drawing) -> np.ndarray:
        stream = pipeline.stream(
            job.prompt,
            seed=0,
            num_inference_steps=drawing.steps,
            guidance_scale=job.guidance_scale,
            height=job.size,
            width=job.size,
            num_images_per_prompt=job.num_images,
            **inputs,
        )
        for _ in stream:
            drawing.end_step()
        drawing.stages |= stream.result.timings.seconds
        return bytes_of(stream.result.images)

    return draw


if __name__ == "__main__":
    race(open_pipeline, ("sdrt", "onnxruntime", "openvino", "numpy"))
