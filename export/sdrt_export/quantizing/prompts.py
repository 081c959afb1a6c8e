"""The prompts that a denoiser is calibrated on."""

from __future__ import annotations

from pathlib import Path

from sdrt_export.errors import BuildError

# Used if none are given: subjects, light, styles and distances that differ.
PROMPTS = (
    "a photograph of a lighthouse on a cliff at sunset",
    "portrait of an old man with a white beard, studio light",
    "a red bicycle leaning against a brick wall",
    "watercolor painting of a mountain village in spring",
)


def prompts_in(path: Path) -> tuple[str, ...]:
    """The prompts in a text file, one per line. BuildError if it cannot be read or has none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BuildError(
            f"--calibrate {path}: cannot be read ({error.strerror}): name a text file with a "
            "prompt on each line"
        ) from error
    except UnicodeDecodeError as error:
        raise BuildError(f"--calibrate {path}: not a text in UTF-8: save it as UTF-8") from error
    prompts = tuple(filter(None, map(str.strip, lines)))
    if not prompts:
        raise BuildError(f"--calibrate {path}: holds no prompt, expected one on each line")
    return prompts
