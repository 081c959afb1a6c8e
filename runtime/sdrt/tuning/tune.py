"""`sdrt tune` as a function: measurements to a verdict."""

from __future__ import annotations

from datetime import UTC, datetime

from sdrt.bundle.folder import Bundle
from sdrt.errors import SdrtError
from sdrt.targets.conditions import conditions_of
from sdrt.targets.tuned import Tuning
from sdrt.tuning.rounds import Measures, Plan, measured


def tune(bundle: Bundle, plan: Plan, measures: Measures, num_steps: int) -> Tuning:
    """The verdict on a bundle, for which `num_steps` runs of the denoiser make an image.

    SdrtError with every reason if no target of the plan could be measured.
    """
    conditions = conditions_of(bundle)  # first: a later change makes the verdict stale
    targets = measured(plan, measures)
    if all(found.error is not None for found in targets):
        reasons = "; ".join(f"{found.target}: {found.error}" for found in targets)
        raise SdrtError(f"no target could be measured, nothing was recorded: {reasons}")
    return Tuning(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        conditions=conditions,
        shapes=plan.shapes,
        num_steps=num_steps,
        targets=targets,
    )
