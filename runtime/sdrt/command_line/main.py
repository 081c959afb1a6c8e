"""The command line: `sdrt run`, `export`, `build`, `inspect`, `set`, `verify`, `tune`,
`bench`, `doctor`.

Errors that sdrt raises are one line and exit code 1, usage errors exit code 2; `--debug` shows
the traceback. Output that cannot be written does not undo what a command did.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Mapping, Sequence

from sdrt.command_line.options import Command, parser_of
from sdrt.command_line.printable import printable, shortened
from sdrt.command_line.signals import ending_signals, exit_code
from sdrt.command_line.streams import GuardedStream, guarded_streams
from sdrt.errors import SdrtError, UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    warnings.formatwarning = _format_warning
    # sdrt refuses large images itself, at a lower limit
    warnings.filterwarnings("ignore", message="Image size", module=r"PIL\.")
    arguments = sys.argv[1:] if arguments is None else arguments
    with guarded_streams() as stdout:
        return _run_command(arguments) or _check_written(stdout, arguments)


def _check_written(stdout: GuardedStream, arguments: Sequence[str]) -> int:
    """Reports output that was lost; the exit code is 1 if it was all that the command makes."""
    stdout.flush()
    if not stdout.was_lost:
        return 0
    sys.stderr.write(f"sdrt: stdout cannot be written: {stdout.fault and stdout.fault.strerror}\n")
    return 0 if arguments[0] in _WRITING_FILES else 1


def _run_command(arguments: Sequence[str]) -> int:
    parser = parser_of(_COMMANDS)
    if not arguments:
        sys.stderr.write(parser.format_help())  # like uv and ruff: a script that calls it is wrong
        return 2
    try:
        options = parser.parse_args(arguments)
    except UsageError as error:
        return _report(error)
    from sdrt.command_line.log_lines import log_in_lines  # --help does not need it

    log_in_lines()
    try:
        with ending_signals():
            options.command(options)
    except SdrtError as error:
        if options.debug:
            raise
        return _report(error)
    except KeyboardInterrupt as error:
        code = exit_code(error)
    else:
        return 0
    _clean_up()  # out of the block, as its error keeps drafts locked
    sys.stderr.write("sdrt: interrupted, no incomplete file was left\n")
    return code


def _clean_up() -> None:
    from sdrt.files.drafts import remove_interrupted_drafts

    remove_interrupted_drafts()


def _report(error: SdrtError) -> int:
    """Writes one line to stderr, even for a message of several; returns the exit code."""
    message = " ".join(str(error).split())
    sys.stderr.write(f"sdrt: {printable(shortened(message))}\n")
    return 2 if isinstance(error, UsageError) else 1


def _run(options: argparse.Namespace) -> None:
    from sdrt.command_line.run import run

    run(options)


def _export(options: argparse.Namespace) -> None:
    from sdrt.command_line.export import export

    export(options)


def _build(options: argparse.Namespace) -> None:
    from sdrt.command_line.export import build

    build(options)


def _inspect(options: argparse.Namespace) -> None:
    from sdrt.command_line.inspect_file import inspect_file, is_file

    if is_file(options.bundle):
        inspect_file(options.bundle, as_json=options.json)
        return
    from sdrt.command_line.inspect import inspect

    inspect(options.bundle, as_json=options.json)


def _set(options: argparse.Namespace) -> None:
    from sdrt.command_line.set import set_

    set_(options)


def _verify(options: argparse.Namespace) -> None:
    from sdrt.command_line.verify import verify

    verify(options.bundle, options.target, options.num_threads, as_json=options.json)


def _bench(options: argparse.Namespace) -> None:
    from sdrt.command_line.bench import bench

    bench(options)


def _doctor(options: argparse.Namespace) -> None:
    from sdrt.command_line.doctor import doctor

    doctor(options.bundle, as_json=options.json)


def _tune(options: argparse.Namespace) -> None:
    from sdrt.command_line.tune import tune

    tune(options)


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    return f"sdrt: warning: {printable(message)}\n"


_WRITING_FILES = frozenset({"run", "export", "build", "tune"})
_COMMANDS: Mapping[str, Command] = {
    "run": _run,
    "export": _export,
    "build": _build,
    "inspect": _inspect,
    "set": _set,
    "verify": _verify,
    "tune": _tune,
    "bench": _bench,
    "doctor": _doctor,
}
