"""The tables of the documentation that come from the source: options, schedulers, rooms, words."""

from __future__ import annotations

import argparse
import ast
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from sdrt.command_line.main import _COMMANDS
from sdrt.command_line.options import help_with_default, parser_of
from sdrt.parameters import PARAMETERS, Parameter
from sdrt.samplers.options import TRAINING, defaults
from sdrt.samplers.schedulers import SCHEDULERS
from sdrt.scheduler_names import _ALIASES, SHORT_NAMES, SUFFIXES

ROOT = Path(__file__).parent.parent
NEUTRAL = defaults(*TRAINING)


def table(headings: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """Markdown."""
    rule = "|---" * len(headings) + "|"
    rows = [f"| {' | '.join(map(_cell, line))} |" for line in [headings, *lines]]
    return "\n".join([rows[0], rule, *rows[1:]])


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def code(text: object) -> str:
    """The text in Markdown's backticks; empty for nothing."""
    return f"`{text}`" if text not in (None, "") else ""


# --- requests


def request_fields() -> str:
    """The fields of a `Request`, from the table of parameters."""
    return table(
        ("field", "meaning", "values", "default", "command line", "A1111"),
        [
            (
                code(parameter.name),
                _help_of(parameter),
                parameter.kind,
                parameter.default or "none",
                code(_option_of(parameter)),
                parameter.a1111 or "",
            )
            for parameter in PARAMETERS
        ],
    )


def _help_of(parameter: Parameter) -> str:
    return parameter.help + (f"; needs {code(parameter.needs)}" if parameter.needs else "")


def _option_of(parameter: Parameter) -> str:
    """The option of `sdrt run` that gives it, if there is one."""
    actions = _commands()["run"]._actions
    action = next((action for action in actions if action.dest == parameter.name), None)
    if action is None:
        return ""
    long = (option for option in action.option_strings if option.startswith("--"))
    return next(long, parameter.name.upper())


# --- schedulers


def scheduler_names() -> str:
    """Every short name, with diffusers' class and A1111's name."""
    aliases: dict[str, list[str]] = {}
    for alias, name in _ALIASES.items():
        aliases.setdefault(name, []).append(alias)
    return table(
        ("sdrt", "also", "diffusers", "options that the name sets", "A1111"),
        [
            (
                code(name),
                ", ".join(map(code, aliases.get(name, []))),
                code(short.scheduler),
                ", ".join(code(f"{key}={value}") for key, value in short.options.items()),
                short.a1111 or "",
            )
            for name, short in SHORT_NAMES.items()
        ],
    )


def scheduler_suffixes() -> str:
    """The suffixes, the option that each sets, and the short names that take it."""
    return table(
        ("suffix", "sets", "A1111", "of"),
        [
            (
                code(suffix),
                code(f"{chosen.option}={chosen.value}"),
                chosen.a1111,
                _those_with(suffix),
            )
            for suffix, chosen in SUFFIXES.items()
        ],
    )


def _those_with(suffix: str) -> str:
    return ", ".join(code(name) for name, short in SHORT_NAMES.items() if suffix in short.suffixes)


def scheduler_options() -> str:
    """Each scheduler's options with their defaults, and its other arguments. Training options are
    the same for all, and left out if they have neutral defaults.
    """
    lines = []
    for name, scheduler in SCHEDULERS.items():
        shown = {
            key: value
            for key, value in scheduler.options.items()
            if key not in TRAINING or value != NEUTRAL[key]
        }
        options = ", ".join(code(f"{key}={value!r}") for key, value in shown.items())
        takes = ", ".join(map(code, scheduler.takes))
        predictions = ", ".join(map(code, scheduler.prediction_types))
        lines.append((code(name), predictions, takes, options))
    return table(("scheduler", "prediction types", "also takes", "options and defaults"), lines)


# --- commands


def commands() -> str:
    """A section for each command, with its arguments and options."""
    sections = []
    for name, command in _commands().items():
        expand = command._get_formatter()._expand_help
        lines = [(code(_written(action)), expand(action)) for action in _documented(command)]
        epilog = f"\n\n{command.epilog}" if command.epilog else ""
        sections.append(f"## sdrt {name}\n\n{table(('option', 'meaning'), lines)}{epilog}")
    return "\n\n".join(sections)


def _commands() -> Mapping[str, argparse.ArgumentParser]:
    """The parser of each command."""
    parser = parser_of(dict.fromkeys(_COMMANDS, lambda options: None))
    (places,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return places.choices


def _documented(command: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in command._actions:
        if action.dest not in ("help", "debug"):
            yield action


def _written(action: argparse.Action) -> str:
    if not action.option_strings:
        return action.dest.upper()
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return ", ".join(action.option_strings) + value


def _value(action: argparse.Action) -> str:
    if action.choices is not None:
        return f"{{{','.join(map(str, action.choices))}}}"
    return str(action.metavar or action.dest.upper().rstrip("S"))


def _help(action: argparse.Action) -> str:
    return help_with_default(action).replace("%%", "%")


# --- the house


def rooms_of_the_runtime() -> str:
    """The rooms from the top down, in import-linter's order."""
    return _rooms("runtime/sdrt", "Rooms of the runtime import downwards")


def rooms_of_the_exporter() -> str:
    return _rooms("export/sdrt_export", "Rooms of the exporter import downwards")


def files_of_the_engines() -> str:
    return table(
        ("file", "what it holds"),
        [
            (code(path.stem), _summary(path))
            for path in sorted((ROOT / "engines/sdrt_engines").glob("*.py"))
            if not path.stem.startswith("__")
        ],
    )


def _rooms(package: str, contract: str) -> str:
    """The rooms and modules of a package that a contract orders, with their docstrings' first
    paragraphs."""
    lines = []
    for name in _layers(contract):
        room, module = ROOT / package / name / "__init__.py", ROOT / package / f"{name}.py"
        if room.is_file():
            lines.append((code(f"{name}/"), _summary(room)))
        elif module.is_file():
            lines.append((code(name), _summary(module)))
    return table(("room", "what it holds"), lines)


def _layers(contract: str) -> list[str]:
    """The names in a contract of import-linter, from the top down."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["name"] == contract)
    return [name.strip(" ()") for layer in layers for name in layer.split("|")]


def _summary(path: Path) -> str:
    """The first paragraph of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.partition("\n\n")[0].split())


BLOCKS: Mapping[str, Callable[[], str]] = {
    "request fields": request_fields,
    "scheduler names": scheduler_names,
    "scheduler suffixes": scheduler_suffixes,
    "scheduler options": scheduler_options,
    "commands": commands,
    "rooms of the runtime": rooms_of_the_runtime,
    "rooms of the exporter": rooms_of_the_exporter,
    "files of the engines": files_of_the_engines,
}
