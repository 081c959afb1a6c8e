"""A lack of memory is one line, also while Python imports the libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = "from sdrt_command import main; import sys; sys.exit(main())"


def outcome_if_numpy_raises(error: str, folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit code and stderr of the command on a machine where numpy does not load."""
    (folder / "numpy.py").write_text(f"raise {error}")
    paths = [str(folder), *sys.path]
    program = f"import sys; sys.path[:] = {paths!r}\n{COMMAND}"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, *arguments], capture_output=True, text=True
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "error",
    [
        "MemoryError()",
        "ImportError('libblas.so: failed to map segment from shared object')",
        "ImportError('libblas.so: cannot map zero-fill pages')",
        "OSError(12, 'Cannot allocate memory')",
        'RuntimeError("can\'t start new thread")',
    ],
)
def test_a_lack_of_memory_is_one_line(error: str, tmp_path: Path) -> None:
    code, text = outcome_if_numpy_raises(error, tmp_path, "doctor")
    assert code == 1
    assert text == (
        "sdrt: there is not enough memory: close other programs, or raise the limit (ulimit -v, or "
        "that of the container)\n"
    )


@pytest.mark.parametrize(
    ("error", "arguments"),
    [("ImportError('no such file')", ["doctor"]), ("MemoryError()", ["doctor", "--debug"])],
)
def test_other_errors_and_debug_show_the_traceback(
    error: str, arguments: list[str], tmp_path: Path
) -> None:
    code, text = outcome_if_numpy_raises(error, tmp_path, *arguments)
    assert code == 1
    assert text.startswith("Traceback")
