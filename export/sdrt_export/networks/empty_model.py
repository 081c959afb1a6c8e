"""Models without weights: made from a configuration in no time and no memory, for tracing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


def empty_model(make: Callable[[], nn.Module]) -> nn.Module:
    """The model that `make` constructs, with one number in place of each weight's values.

    Such a weight has the size of the real one in float32, and strides of 0: the TorchScript
    exporter does not trace tensors on the meta device. Buffers that are computed, such as
    position ids, are real.
    """
    with _UninitialisedOnMeta():
        model = make()
    weights = {name: _placeholder(weight) for name, weight in model.state_dict().items()}
    model.load_state_dict(weights, assign=True)
    return model


def _placeholder(weight: torch.Tensor) -> torch.Tensor:
    return torch.full((), 0.01).expand(weight.shape)


class _UninitialisedOnMeta(TorchFunctionMode):
    """Keeps torch from allocating memory that is to be initialised: that of weights."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty:
            kwargs = kwargs | {"device": "meta"}
        return func(*args, **kwargs)
