"""Recognises files by the names and shapes of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sdrt.adapters.embedding_layouts import embedding_file
from sdrt.adapters.foreign_layouts import foreign_file
from sdrt.adapters.found import SUPPORTED, Found
from sdrt.adapters.lora_layouts import lora_file
from sdrt.adapters.safetensors import SafetensorsFile
from sdrt.adapters.unet_layouts import checkpoint_file, controlnet_file
from sdrt.adapters.vae_layouts import tiny_vae_file, vae_file
from sdrt.errors import FileError, quoted

# In this order: a ControlNet has the keys of a UNet, too, and a checkpoint those of a VAE.
_KINDS: Sequence[Callable[[SafetensorsFile], Found | None]] = (
    foreign_file,
    lora_file,
    embedding_file,
    controlnet_file,
    checkpoint_file,
    vae_file,
    tiny_vae_file,
)
_SHOWN = 4  # keys in a message


def recognised(file: SafetensorsFile) -> Found:
    """The kind of the file, with its facts; FileError, which lists some keys, if it is unknown."""
    for kind in _KINDS:
        if found := kind(file):
            return found
    names = ", ".join(quoted(key) for key in list(file.tensors)[:_SHOWN]) or "none"
    raise FileError(
        f"{file.path}: not a kind of file that sdrt knows: it has {len(file.tensors)} tensors "
        f"(the first: {names}): {SUPPORTED}"
    )
