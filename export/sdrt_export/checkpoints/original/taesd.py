"""The tiny autoencoder of TAESD.

Source: https://github.com/madebyollin/taesd, `taesd.py`; diffusers' `AutoencoderTiny`.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from sdrt_export.checkpoints.original.names import Key


def taesd_encoder_names(keys: Collection[str]) -> dict[str, Key]:
    """The weights of the encoder, from keys without their prefix."""
    return {f"encoder.layers.{key}": Key(key) for key in keys}


def taesd_decoder_names(keys: Collection[str]) -> dict[str, Key]:
    """The weights of the decoder, whose first layer in the file clamps and has no weights."""
    layers = (re.fullmatch(r"(\d{1,6})\.(.*)", key) for key in keys)
    return {
        f"decoder.layers.{int(layer[1]) - 1}.{layer[2]}": Key(layer[0])
        for layer in layers
        if layer is not None
    }
