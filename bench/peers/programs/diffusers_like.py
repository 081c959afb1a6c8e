"""A pipeline with the interface of diffusers', with a timed text encoder and VAE decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from protocol import Generate, Generation, Job, bytes_of


class StepsOver(Exception):  # noqa: N818 - nothing has failed
    """Raised after the last step of an image that is not decoded."""


def generate_with(pipe: Any, job: Job) -> Generate:
    pipe.set_progress_bar_config(disable=True)
    image = Image.open(job.image).convert("RGB")
    inputs = {
        "text": {"height": job.size, "width": job.size},
        "image": {"image": image, "strength": job.strength},
        "control": {"image": image, "height": job.size, "width": job.size},
    }[job.kind]
    encode_prompt, decode = pipe.encode_prompt, pipe.vae.decode

    def generate(generation: Generation) -> np.ndarray:
        pipe.encode_prompt = generation.timed("text_encoder", encode_prompt)
        pipe.vae.decode = generation.timed("vae_decoder", decode)

        def on_step_end(pipe: Any, index: int, timestep: Any, values: dict) -> dict:
            generation.end_step()
            if generation.over:
                raise StepsOver(values["latents"])
            return values

        try:
            images = pipe(
                job.prompt,
                num_inference_steps=generation.steps,
                guidance_scale=job.guidance_scale,
                num_images_per_prompt=job.num_images,
                generator=[torch.Generator().manual_seed(i) for i in range(job.num_images)],
                callback_on_step_end=on_step_end,
                **inputs,
            ).images
        except StepsOver as over:
            return over.args[0].float().numpy()
        return bytes_of(images)

    return generate
