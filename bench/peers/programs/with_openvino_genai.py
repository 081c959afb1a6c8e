"""OpenVINO GenAI. `{"precision": "f32"}`; an int8 model has its own folder."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import openvino_genai
from PIL import Image
from protocol import Generate, Generation, Job, race

PIPELINES = {
    "text": openvino_genai.Text2ImagePipeline,
    "image": openvino_genai.Image2ImagePipeline,
}


class GivenNoise(openvino_genai.Generator):
    """The numbers that the other peers take from torch's generator, in their order."""

    def __init__(self, noise: np.ndarray) -> None:
        super().__init__()
        self._numbers, self._used = noise.reshape(-1), 0

    def next(self) -> float:
        return float(self._take(1)[0])

    def randn_tensor(self, shape: Any) -> openvino.Tensor:
        shape = list(shape)
        return openvino.Tensor(self._take(int(np.prod(shape))).reshape(shape).copy())

    def _take(self, count: int) -> np.ndarray:
        found = np.take(self._numbers, range(self._used, self._used + count), mode="wrap")
        self._used += count
        return found


def open_pipeline(job: Job) -> Generate:
    pipe = PIPELINES[job.kind](job.model)
    pipe.reshape(job.num_images, job.size, job.size, job.guidance_scale)
    pipe.compile(
        "CPU",
        INFERENCE_PRECISION_HINT=job.options["precision"],
        INFERENCE_NUM_THREADS=str(job.num_threads),
        PERFORMANCE_HINT="LATENCY",
    )
    noise = np.load(job.noise)
    inputs: list[Any] = [job.prompt]
    keywords: dict[str, Any] = {"height": job.size, "width": job.size}
    if job.kind == "image":
        image = np.asarray(Image.open(job.image).convert("RGB"))[None]
        inputs.append(openvino.Tensor(image))
        keywords = {"strength": job.strength}

    def generate(generation: Generation) -> np.ndarray:
        latents: list[np.ndarray] = []

        def on_step_end(step: int, num_steps: int, latent: Any) -> bool:
            generation.end_step()
            if generation.over:
                latents.append(np.array(latent.data))
            return generation.over

        images = pipe.generate(
            *inputs,
            num_inference_steps=generation.steps,
            guidance_scale=job.guidance_scale,
            num_images_per_prompt=job.num_images,
            generator=GivenNoise(noise),
            callback=on_step_end,
            **keywords,
        )
        metrics = pipe.get_performance_metrics()
        encoders = metrics.get_text_encoder_infer_duration()
        generation.stages["text_encoder"] = sum(encoders.values()) / 1000
        generation.stages["vae_decoder"] = metrics.get_vae_decoder_infer_duration() / 1000
        return latents[0] if latents else np.array(images.data)

    return generate


if __name__ == "__main__":
    race(open_pipeline, ("openvino-genai", "openvino", "openvino-tokenizers", "numpy"))
