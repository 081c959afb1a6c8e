"""Measures how often the demo model follows its prompt: 200 seeded prompts from the whole
grammar."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from recording import Measurement, record

import sdrt
from sdrt_engines.packages import installed_versions
from sdrt_export.demo.grammar import ALL_SCENES, caption_from_scene
from sdrt_export.demo.judge import ATTRIBUTES, sight

STEPS, BATCH = 20, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--scheduler", help="default: the bundle's")
    parser.add_argument("--sheet", type=Path, help="also write all images as one PNG")
    options = parser.parse_args()

    rng = np.random.default_rng(2026)
    scenes = [ALL_SCENES[i] for i in rng.choice(len(ALL_SCENES), options.prompts, replace=False)]
    with sdrt.Pipeline.open("demo", target="cpu") as pipeline:
        images = [
            np.asarray(image)
            for start in range(0, len(scenes), BATCH)
            for image in pipeline(
                [caption_from_scene(scene) for scene in scenes[start : start + BATCH]],
                seed=1000 + start,
                num_inference_steps=STEPS,
                scheduler=options.scheduler,
            ).images
        ]
    agreements = [sight(p).agreement(scene) for p, scene in zip(images, scenes, strict=True)]
    shares = {name: np.mean([a[name] for a in agreements]) for name in ATTRIBUTES}
    shares["all four"] = np.mean([all(a.values()) for a in agreements])
    notes = {"prompts": len(scenes), "steps": STEPS, "scheduler": options.scheduler or "default"}
    record(
        "demo_quality",
        [
            Measurement(f"{name} right", "%", (100 * share,), installed_versions("sdrt"), notes)
            for name, share in shares.items()
        ],
    )
    if options.sheet:
        rows = [np.concatenate(images[i : i + 20], 1) for i in range(0, len(images) - 19, 20)]
        Image.fromarray(np.concatenate(rows)).save(options.sheet)


if __name__ == "__main__":
    main()
