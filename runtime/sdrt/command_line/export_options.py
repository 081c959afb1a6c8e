"""The options of `sdrt export`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from sdrt.errors import quoted


def add_export(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `sdrt export`."""
    parser.add_argument(
        "source",
        nargs="?",
        help='a checkpoint: diffusers folder, safetensors file, Hub id, or "demo"',
    )
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("-o", "--output", type=Path, metavar="BUNDLE", help="the folder to write")
    place.add_argument(
        "--into",
        type=Path,
        metavar="BUNDLE",
        help="add ControlNets, a tiny VAE or embeddings to this bundle instead",
    )
    _add_models(parser)
    _add_merged(parser)
    parser.add_argument(
        "--weights",
        choices=["auto", "fp32", "fp16"],
        default="auto",
        help="how to store weights; auto means float16 if that changes none of them, else float32",
    )
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        dest="targets",
        metavar="TARGET",
        help="also build for this target, as `sdrt build` does; may be repeated",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="replace an existing bundle or, with --into, its ControlNets and tiny VAE of the same "
        "names",
    )


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--controlnet",
        type=_name_and_path,
        action="append",
        default=[],
        metavar="NAME=PATH",
        dest="controlnets",
        help="also export a ControlNet, from a diffusers folder, a safetensors file or a Hub id; "
        "may be repeated",
    )
    parser.add_argument(
        "--prediction-type",
        choices=["epsilon", "v_prediction"],
        help="what the UNet of a single file predicts (default: what the file records, or seems "
        "to be)",
    )
    parser.add_argument(
        "--vae",
        metavar="PATH",
        help="export this VAE in place of the checkpoint's: a diffusers folder, a file or a Hub id",
    )
    parser.add_argument(
        "--tiny-vae",
        metavar="PATH",
        help="also export a tiny VAE (TAESD), for previews and `sdrt run --vae tiny`",
    )


def _add_merged(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lora",
        type=_path_and_scale,
        action="append",
        default=[],
        metavar="PATH[:SCALE]",
        dest="loras",
        help="merge a LoRA into the weights, from a safetensors file (SCALE: 1 if not given); may "
        "be repeated",
    )
    parser.add_argument(
        "--embedding",
        type=_maybe_named_path,
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        dest="embeddings",
        help="also export a textual inversion, a safetensors file, for prompts that contain NAME "
        "(if not given: the file's name without suffix); may be repeated",
    )


def _name_and_path(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(
            f"got {quoted(text)}, expected NAME=PATH, as in canny=folder"
        )
    return name, path


def _path_and_scale(text: str) -> tuple[str, float]:
    """A path, which may contain colons, and the number after its last one, 1 without one."""
    path, colon, end = text.rpartition(":")
    try:
        scale = float(end) if colon else None
    except ValueError:
        scale = None
    if scale is None:
        path, scale = text, 1.0
    if not path:
        raise argparse.ArgumentTypeError(
            f"got {quoted(text)}, expected PATH or PATH:SCALE, as in style.safetensors:0.8"
        )
    if not math.isfinite(scale):
        raise argparse.ArgumentTypeError(f"got the scale {quoted(end)}, expected a number")
    return path, scale


def _maybe_named_path(text: str) -> str | tuple[str, str]:
    """A path, or a name, an equals sign and a path. Names and paths may contain such signs."""
    if "=" not in text or Path(text).exists():
        return text
    parts = text.split("=")
    pairs = [("=".join(parts[:n]), "=".join(parts[n:])) for n in range(1, len(parts))]
    return next((pair for pair in pairs if Path(pair[1]).exists()), pairs[0])
