"""torch's elementary functions rounded to the nearest float32, like numpy's.

torch takes its square roots, powers, logarithms and exponentials from MKL, which is off by one unit
in the last place, differently on each make of CPU. If diffusers subtracts nearly equal numbers
(betas at zero terminal SNR, the coefficients of DEIS), that unit decides the fifth digit. With
these functions the same code of diffusers gives the same numbers on every machine.

They are replaced by their names: a `TorchFunctionMode` does the same, but every operation of torch
then goes through Python, which took a fifth of the time of the samplers' tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest
import torch

_FUNCTIONS = ("sqrt", "log", "exp", "expm1", "pow")
_ROUNDED = {torch: _FUNCTIONS, torch.Tensor: (*_FUNCTIONS, "__pow__", "__rpow__")}


@contextmanager
def nearest_rounding() -> Iterator[None]:
    """Computes these functions of float32 tensors in float64, and rounds once."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, names in _ROUNDED.items():
            for name in names:
                patch.setattr(owner, name, _rounded(getattr(owner, name)))
        yield


def _rounded(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def rounded(*args: Any, **kwargs: Any) -> Any:
        tensor = args[0] if args else None
        if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32:
            return function(tensor.double(), *args[1:], **kwargs).float()
        return function(*args, **kwargs)

    return rounded
