"""Methods whose keywords are the fields of a request, as `help()` and notebooks show them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from sdrt.parameters_text import parameters_text
from sdrt.request import Request

Method = TypeVar("Method", bound=Callable[..., Any])


def showing_options(method: Method) -> Method:
    """Makes `help()` and notebooks show the options, which Python sees as `**options`."""
    own = list(inspect.signature(method).parameters.values())[:-1]
    options = [
        option.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for option in inspect.signature(Request).parameters.values()
        if option.name != "prompt"
    ]
    signature = inspect.signature(method).replace(parameters=[*own, *options])
    method.__doc__ = f"{inspect.getdoc(method)}\n\nOptions:\n{parameters_text()}"
    vars(method)["__signature__"] = signature
    return method
