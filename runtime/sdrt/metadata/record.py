"""A record of how an image was made, as it was read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sdrt.notes import Note


@dataclass(frozen=True)
class Record:
    """The parameters that an image names, by the names of diffusers.

    Fields:
        parameters: enough to generate the image again, unless a note says otherwise
        notes: what was not understood or will not be honoured
    """

    parameters: dict[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
