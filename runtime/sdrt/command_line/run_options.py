"""The options of `sdrt run`: a table of the fields of a request that they set."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from sdrt.command_line.shared_options import add_num_threads, number, whole_number
from sdrt.images.framing import Resize


@dataclass(frozen=True)
class _Kind:
    """How the value of an option is written, and read."""

    metavar: str
    type: Callable[[str], Any] = str


@dataclass(frozen=True)
class _Field:
    """An option that sets a field of a request."""

    field: str
    kind: _Kind
    help: str
    names: tuple[str, ...] = ()  # in place of --field-with-dashes

    def add_to(self, group: argparse._ActionsContainer) -> None:
        group.add_argument(
            *(self.names or (f"--{self.field.replace('_', '-')}",)),
            dest=self.field,
            metavar=self.kind.metavar,
            type=self.kind.type,
            help=self.help,
        )


_TEXT = _Kind("TEXT")
_NAME = _Kind("NAME")
_IMAGE = _Kind("IMAGE")
_COUNT = _Kind("N", whole_number)
_NUMBER = _Kind("X", number)

_FIELDS = (
    _Field(
        "negative_prompt", _TEXT, "what the images should not show", ("-n", "--negative-prompt")
    ),
    _Field(
        "num_inference_steps",
        _COUNT,
        "number of denoising steps",
        ("--steps", "--num-inference-steps"),
    ),
    _Field("guidance_scale", _NUMBER, "how strongly the prompt guides (1 = not at all)"),
    _Field("guidance_rescale", _NUMBER, "0..1, against over-exposure by high guidance"),
    _Field("scheduler", _NAME, "e.g. euler, dpmpp_2m_karras, or a diffusers class name"),
    _Field("width", _COUNT, "pixels", ("-W", "--width")),
    _Field("height", _COUNT, "pixels", ("-H", "--height")),
    _Field(
        "num_images_per_prompt",
        _COUNT,
        "seeds count up from --seed",
        ("--num-images", "--num-images-per-prompt"),
    ),
    _Field("seed", _COUNT, "default: a random one, which the PNG records", ("-s", "--seed")),
    _Field("eta", _NUMBER, "share of fresh noise for DDIM, 0..1"),
    _Field("clip_skip", _COUNT, "leave out that many of the text encoder's last layers"),
)
_IMAGE_FIELDS = (
    _Field("image", _IMAGE, "begin with this image"),
    _Field(
        "mask_image", _IMAGE, "generate only where this one is white", ("--mask", "--mask-image")
    ),
    _Field(
        "strength", _NUMBER, "0..1, how much of the image changes (default: 0.8, with a mask 1)"
    ),
    _Field(
        "padding_mask_crop",
        _COUNT,
        "generate only the mask and N pixels around it, larger, and paste the result back",
    ),
)
_CONTROL_OPTIONS = {  # each may be repeated: of what form, and what for
    "--control": ("NAME=IMAGE", "generate along this image"),
    "--control-scale": ("NAME=X", "how much it counts (default: 1)"),
    "--control-window": ("NAME=START:END", "from which to which share of the steps (0:1)"),
    "--annotate": ("NAME=ANNOTATOR", "make the control image from it first, with canny"),
}


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `sdrt run`, named as the fields of a request."""
    parser.add_argument(
        "bundle", nargs="?", help='a bundle folder, or "demo"; from --from-image if left out'
    )
    parser.add_argument("prompt", nargs="?", help="what to generate; from --from-image if left out")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PNG", help="file to write (default: sdrt-SEED.png)"
    )
    parser.add_argument(
        "--from-image", type=Path, metavar="PNG", help="take all parameters from a PNG of sdrt"
    )
    for field in _FIELDS:
        field.add_to(parser)
    _add_images(parser.add_argument_group("images"))
    _add_control(parser.add_argument_group("ControlNets, each by its name in the bundle"))
    parser.add_argument(
        "--target", default="auto", help="where to run (default: auto, the fastest by sdrt tune)"
    )
    add_num_threads(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")


def add_fields(group: argparse._ActionsContainer, *names: str) -> None:
    """Adds the options of `sdrt run` that set these fields of a request."""
    for field in _FIELDS:
        if field.field in names:
            field.add_to(group)


def _add_images(group: argparse._ArgumentGroup) -> None:
    for field in _IMAGE_FIELDS:
        field.add_to(group)
    group.add_argument(
        "--resize", choices=get_args(Resize), help="how images are brought to another shape"
    )


def _add_control(group: argparse._ArgumentGroup) -> None:
    for option, (form, meaning) in _CONTROL_OPTIONS.items():
        group.add_argument(option, action="append", metavar=form, help=meaning)
    group.add_argument(
        "--guess-mode",
        action=argparse.BooleanOptionalAction,
        help="let the control images decide where the prompt says nothing",
    )
