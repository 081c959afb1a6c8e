"""Options and arguments of other programs, and those of `sdrt` with the same meaning."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

from sdrt.errors import nearest
from sdrt.parameters import ALIASES, PARAMETER

Meant: TypeAlias = str | tuple[str, ...]  # several: those that the command has

_OPTIONS: Mapping[str, Meant] = {
    "--batch-count": "--num-images",
    "--batch-size": ("--num-images", "--batch"),
    "--cpu": "--target",
    "--ddim-steps": "--steps",
    "--device": "--target",
    "--dtype": ("--weights", "--precision"),
    "--execution-provider": "--target",
    "--force": "--replace",
    "--fp16": ("--weights", "--precision"),
    "--gpu": "--target",
    "--half": ("--weights", "--precision"),
    "--img": "--image",
    "--init-img": "--image",
    "--input-image": "--image",
    "--lora-path": "--lora",
    "--lora-scale": "--lora",
    "--lora-weights": "--lora",
    "--n-iter": "--num-images",
    "--n-samples": "--num-images",
    "--name": "--output",
    "--outdir": "--output",
    "--overwrite": "--replace",
    "--provider": "--target",
    "--save": "--output",
    "--threads": "--num-threads",
    "--torch-dtype": ("--weights", "--precision"),
}
_AT_EXPORT = ("--lora",)  # what other programs take with each image
_ARGUMENTS: Mapping[str, tuple[str, ...]] = {  # options of others for positional arguments
    "--checkpoint": ("source", "bundle"),
    "--ckpt": ("source", "bundle"),
    "--input": ("source", "bundle"),
    "--model": ("source", "bundle"),
    "--model-id": ("source", "bundle"),
    "--model-path": ("source", "bundle"),
    "--pretrained-model": ("source", "bundle"),
    "--text": ("prompt",),
}


def hint_on_option(
    option: str, command: str, known: Collection[str], arguments: Sequence[str]
) -> str:
    """The likely meaning of an unknown `option` of `command`, for the end of a message.

    `known` are the command's options, `arguments` the names of its positional arguments.
    """
    word = option.partition("=")[0].lower().replace("_", "-")
    for name in _ARGUMENTS.get(word, (word.removeprefix("--"),)):
        if name in arguments:
            return f"give it without one: {command} {' '.join(arguments).upper()}"
    elsewhere = {**_parameter_options(), **_OPTIONS}.get(word, ())
    for name in _names(elsewhere) or (word,):
        if name in _AT_EXPORT and name not in known:
            return f"give {name} to `sdrt export`, which merges it into the weights"
    meant = [name for name in _names(elsewhere) if name in known] or _near(word, known)
    if meant:
        return "did you mean " + " or ".join(f"'{name}'" for name in meant) + "?"
    return f"known: {', '.join(known)}"


def is_known_elsewhere(option: str) -> bool:
    """True if other programs have an option of this name."""
    return option in _parameter_options() or option in _OPTIONS


def _near(word: str, known: Iterable[str]) -> list[str]:
    """The option spelt most like `word`, ignoring the dashes that all have in common."""
    by_word = {name.lstrip("-"): name for name in known}
    near = nearest(word.lstrip("-"), by_word)
    return [by_word[near]] if near else []


def _parameter_options() -> dict[str, Meant]:
    """Other programs' names for the parameters of a request, as options."""
    return {
        _option(alias): tuple(_option_of(name) for name in _names(meant))
        for alias, meant in ALIASES.items()
    }


def _option_of(name: str) -> str:
    """The first long option that sets a parameter."""
    written = PARAMETER[name].options or (_option(name),)
    return next(option for option in written if option.startswith("--"))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _names(meant: Meant) -> tuple[str, ...]:
    return (meant,) if isinstance(meant, str) else meant
