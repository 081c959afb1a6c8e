"""The guard between networks: NaN never becomes a black picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sdrt.errors import NonFiniteError


def require_finite(component: str, array: npt.NDArray[Any]) -> None:
    """Raises ``NonFiniteError``, naming the component, where its output holds NaN or infinity."""
    if not np.isfinite(array).all():
        raise NonFiniteError(
            f"{component}: {np.count_nonzero(~np.isfinite(array))} of {array.size} output values "
            "are NaN or infinite, so there is no picture to hand over; use target cpu, or export "
            "the checkpoint again"
        )
