from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from sdrt.command_line.main import main
from sdrt_engines.log import log
{before}
main(["inspect", "missing"])
log().info("quiet")
log().warning("target %s failed\\nat \\x1b[2J", "cuda")
"""


def lines_of(before: str = "") -> list[str]:
    """The lines of the program on stderr after the command line's own error."""
    program = PROGRAM.format(before=before)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.stderr.splitlines()[1:]


def test_warnings_of_the_log_are_lines_of_sdrt() -> None:
    assert lines_of() == ["sdrt: warning: target cuda failed at \\u001b[2J"]


def test_a_program_with_its_own_log_keeps_it() -> None:
    ours = "import logging, sys; logging.basicConfig(format='OURS %(message).11s')"
    assert lines_of(ours) == ["OURS target cuda"]
