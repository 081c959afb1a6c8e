"""torch's elementary functions rounded to the nearest float32, like numpy's.

torch takes its square roots, powers, logarithms and exponentials from MKL, which is off by one unit
in the last place, differently on each make of CPU. If diffusers subtracts nearly equal numbers
(betas at zero terminal SNR, the coefficients of DEIS), that unit decides the fifth digit. In this
mode the same code of diffusers gives the same numbers on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_ROUNDED = {
    *(torch.sqrt, torch.Tensor.sqrt, torch.log, torch.Tensor.log, torch.exp, torch.Tensor.exp),
    *(torch.pow, torch.Tensor.pow, torch.Tensor.__pow__, torch.Tensor.__rpow__),
    *(torch.expm1, torch.Tensor.expm1),
}


class NearestRounding(TorchFunctionMode):
    """Computes these functions of float32 tensors in float64, and rounds once."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        tensor = args[0] if args else None
        if func in _ROUNDED and isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32:
            result = func(tensor.double(), *args[1:], **(kwargs or {}))
            return result.float()
        return func(*args, **(kwargs or {}))
