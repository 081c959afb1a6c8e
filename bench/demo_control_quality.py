"""Measures how well the demo model follows an outline: 100 held-out outline and prompt pairs.

With scale 0 the outline has no effect: that row shows the agreement by chance.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from recording import Measurement, record

import sdrt
from sdrt_engines.packages import installed_versions
from sdrt_export.demo.control_sheet import control_sheet
from sdrt_export.demo.edge_judge import TOLERANCE, held_out_pairs, score_control

STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--scales", type=float, nargs="+", default=(1.0, 0.0))
    parser.add_argument("--sheet", type=Path, help="also write the first scale's pairs as one PNG")
    options = parser.parse_args()

    pairs = held_out_pairs(options.pairs)
    num_other_shapes = sum(pair.scene.shape != pair.figure.shape for pair in pairs)
    rows, sheets = [], []
    with sdrt.Pipeline.open(options.bundle, target="cpu") as pipeline:
        for scale in options.scales:
            images = [
                np.asarray(
                    pipeline(
                        pair.prompt,
                        control={"edges": sdrt.Control(Image.fromarray(pair.outline), scale=scale)},
                        seed=2000 + i,
                        num_inference_steps=STEPS,
                    ).images[0]
                )
                for i, pair in enumerate(pairs)
            ]
            scores = score_control(zip(pairs, images, strict=True))
            notes = {
                "pairs": len(pairs),
                "prompts that ask for another shape": num_other_shapes,
                "steps": STEPS,
                "scale": scale,
                "tolerance, pixels": TOLERANCE,
            }
            rows += [
                Measurement(
                    "edge IoU", "", (scores["edge_iou"],), installed_versions("sdrt"), notes
                ),
                Measurement(
                    "colours right",
                    "%",
                    (100 * scores["colours"],),
                    installed_versions("sdrt"),
                    notes,
                ),
            ]
            sheets.append(images)
    record("demo_control_quality", rows)
    if options.sheet:
        outlines = [pair.outline for pair in pairs]
        tiles = control_sheet(list(zip(outlines, sheets[0], strict=True)))
        Image.fromarray(tiles).save(options.sheet)


if __name__ == "__main__":
    main()
