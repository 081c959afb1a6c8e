"""stable-diffusion.cpp. It has its own tokens and noise, so its images are not compared."""

from __future__ import annotations

import numpy as np
from protocol import Generate, Generation, Job, bytes_of, race
from stable_diffusion_cpp import StableDiffusion


def open_pipeline(job: Job) -> Generate:
    model = StableDiffusion(
        model_path=job.model,
        n_threads=job.num_threads,
        wtype="f16",
        vae_decode_only=True,
        verbose=False,
    )

    def generate(generation: Generation) -> np.ndarray:
        def on_progress(step: int, num_steps: int, seconds: float) -> None:
            if num_steps == generation.steps and step:  # it also reports loading
                generation.end_step()

        images = model.generate_image(
            job.prompt,
            width=job.size,
            height=job.size,
            cfg_scale=job.guidance_scale,
            sample_method="euler",
            sample_steps=generation.steps,
            seed=0,
            batch_count=job.num_images,
            progress_callback=on_progress,
        )
        return bytes_of(images)

    return generate


if __name__ == "__main__":
    race(open_pipeline, ("stable-diffusion-cpp-python", "numpy"))
