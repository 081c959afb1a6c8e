"""The strength of a LoRA's layers as peft's configuration states it.

diffusers writes the configuration into the file's metadata, for each model under its name; peft
itself writes `adapter_config.json` next to the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sdrt.errors import FileError, SdrtError
from sdrt.files.json_fields import FieldError, JsonFields

CONFIG_NAME = "adapter_config.json"
_METADATA = "lora_adapter_metadata"


@dataclass(frozen=True)
class PeftConfig:
    """The strength of layers: their alpha, and how it is divided by the rank."""

    alpha: float
    alphas: Mapping[str, float] = field(default_factory=dict)  # of modules, by patterns
    rank_stabilised: bool = False

    def ratio(self, module: str, rank: int) -> float:
        """alpha / rank, or alpha / √rank for rank-stabilised LoRA (Kalajdzievski 2023)."""
        own = (alpha for pattern, alpha in self.alphas.items() if _fits(pattern, module))
        alpha = next(own, self.alpha)
        return alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def _fits(pattern: str, module: str) -> bool:
    """True if the pattern is the end of the module's name, or after "^" the whole name."""
    name = pattern.removeprefix("^")
    return module == name or (name == pattern and module.endswith(f".{name}"))


def configs_in_metadata(path: Path, metadata: Mapping[str, str]) -> dict[str, PeftConfig]:
    """The configurations by model in a file's metadata. FileError if they are malformed."""
    if _METADATA not in metadata:
        return {}
    of_parts: dict[str, dict[str, object]] = {}
    with _errors_of(f"{path}: its metadata"):
        for name, value in JsonFields.parse(metadata[_METADATA]).values.items():
            part, _, own = name.partition(".")
            of_parts.setdefault(part, {})[own] = value
        return {part: _config(JsonFields(fields)) for part, fields in of_parts.items()}


def config_next_to(path: Path) -> PeftConfig | None:
    """The configuration in the folder of a file, if there is one. FileError if it is malformed."""
    place = path.parent / CONFIG_NAME
    if not place.is_file():
        return None
    with _errors_of(str(place)):
        return _config(JsonFields.parse(place.read_bytes()))


def _config(fields: JsonFields) -> PeftConfig:
    name = "lora_alpha" if "lora_alpha" in fields.values else "alpha"  # of LoHa and LoKr
    alphas = JsonFields(fields.values.get("alpha_pattern") or {})
    for pattern in alphas.values:
        if re.search(r"[\\()\[\]{}*+?|$]", pattern):
            raise FieldError(f"alpha_pattern: got '{pattern}', expected the names of modules")
    return PeftConfig(
        alpha=fields.number(name),
        alphas={pattern: alphas.number(pattern) for pattern in alphas.values},
        rank_stabilised=fields.flag("use_rslora", default=False),
    )


@contextmanager
def _errors_of(where: str) -> Iterator[None]:
    try:
        yield
    except SdrtError as error:
        raise FileError(f"{where}: {error}: download or save it again") from error
    except OSError as error:
        raise FileError(f"{where}: cannot be read: {error.strerror or error}") from error
