"""LoRA files of cloneofsimo/lora: layers are numbered in the order of the model's modules.

The order was that of the diffusers of its time (0.10 to 0.14), which registered the middle block
last, and in a transformer block the feed-forward layers between the two attentions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sdrt.tensor_names import TEXT_ENCODER, UNET

_KEY = re.compile(rf"({UNET}|{TEXT_ENCODER}):(\d+):(up|down)")
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_IN_TEXT = ("k_proj", "v_proj", "q_proj", "out_proj")  # as transformers registers them


def is_numbered(key: str) -> bool:
    return _KEY.fullmatch(key) is not None
