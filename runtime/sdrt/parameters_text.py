"""The parameters of a request in words, as `help()` shows them."""

from __future__ import annotations

from sdrt.parameters import PARAMETERS, Parameter


def parameters_text() -> str:
    """A line for each parameter, as `help()` shows it."""
    return "".join(f"    {parameter.name}: {_sentence(parameter)}\n" for parameter in PARAMETERS)


def _sentence(parameter: Parameter) -> str:
    default = f"; default: {parameter.default}" if parameter.default else ""
    return f"{parameter.help} ({parameter.kind}{default})"
