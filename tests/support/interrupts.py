"""Interrupts at any line of the code that runs on a GPU."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

MODULES = ("plan_engine.py", "cuda_device.py", "open_plan.py", "device_memory.py")


def line_of(frame: FrameType) -> str:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno)


def interrupted(action: Callable[[], object], lines: int) -> bool:
    """Interrupts it after so many lines of our modules; False if it has fewer."""
    left = lines

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(MODULES):
            return None
        # CPython delivers no signal between a block and the release of its lock.
        if event == "line" and not line_of(frame).lstrip().startswith("with"):
            if not left:
                sys.settrace(None)
                raise KeyboardInterrupt
            left -= 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False
