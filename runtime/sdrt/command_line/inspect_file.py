"""`sdrt inspect FILE`: the kind of a file of weights, and the command that uses it."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from sdrt.adapters.found import (
    CheckpointFile,
    ControlNetFile,
    EmbeddingFile,
    ForeignFile,
    Found,
    LoraFile,
    TinyVaeFile,
    VaeFile,
)
from sdrt.adapters.hashes import hashes_of
from sdrt.adapters.other_formats import PICKLES
from sdrt.adapters.recognition import recognised
from sdrt.adapters.safetensors import SafetensorsFile
from sdrt.adapters.uses import advice_on, command_for
from sdrt.bundle.demo import DEMO
from sdrt.command_line.console import PlainConsole
from sdrt.command_line.printable import printable

_SUFFIXES = (".safetensors", *PICKLES)
_MAX_TEXT = 200  # characters of a text that the file's author wrote

# Metadata of kohya's trainers and of Stability's specification, by what they say.
_RECORDED = {
    "modelspec.title": "title",
    "modelspec.architecture": "architecture",
    "modelspec.trigger_phrase": "trigger",
    "ss_base_model_version": "base model",
    "ss_sd_model_name": "base file",
    "ss_network_module": "trained by",
    "ss_network_dim": "dimension",
    "ss_network_alpha": "alpha",
}
_OWNERS = {"ldm": "CompVis (ldm)", "diffusers": "diffusers", "taesd": "TAESD"}
_NOT_RECORDED = "not recorded (epsilon or v_prediction)"
_LABEL = 10  # letters, so that both tables align


def is_file(path: str) -> bool:
    """True for a file, not a folder, and for a missing one that is named as a file of weights."""
    place = Path(path)
    if path == DEMO or place.is_dir():
        return False
    return place.exists() or place.suffix.lower() in _SUFFIXES


def inspect_file(path: str, *, as_json: bool) -> None:
    """Prints the facts about a file. FileError if it is damaged, or of an unknown kind."""
    file = SafetensorsFile.open(path)
    found = recognised(file)
    if as_json:
        sys.stdout.write(printable(json.dumps(_record(file, found), indent=2)) + "\n")
        return
    console = PlainConsole()
    console.print(
        _table({"file": found.title, **_facts(found), **_stored(file), **_recorded(file)})
    )
    console.print(_table(_hashes(file)))  # after the rest: of a large file it takes seconds
    console.print(f"\n{_next_step(found, path)}", soft_wrap=True)


def _record(file: SafetensorsFile, found: Found) -> dict[str, Any]:
    """The same for programs."""
    facts = {"kind": found.kind, "title": found.title, **asdict(found)}
    hashes = {name.lower(): value for name, value in _hashes(file).items()}
    return {**facts, **hashes, "metadata": _recorded(file)}


def _table(rows: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=_LABEL)
    table.add_column(overflow="fold")  # a hash or a name is never cut
    for label, value in rows.items():
        table.add_row(label, value)
    return table


def _facts(found: Found) -> dict[str, str]:
    """The rows of a table that tell two files of the same kind apart."""
    match found:
        case CheckpointFile():
            return {
                "contains": _listed(_parts(found)),
                "layout": _OWNERS[found.layout],
                "prediction": found.prediction or _NOT_RECORDED,
            }
        case ControlNetFile():
            return {
                "layout": _OWNERS[found.layout],
                "reads": f"images of {found.conditioning_channels} channels",
            }
        case VaeFile() | TinyVaeFile():
            return {"contains": _listed(found.halves), "layout": _OWNERS[found.layout]}
        case LoraFile():
            return _facts_of_lora(found)
        case EmbeddingFile():
            return {
                "vectors": f"{found.num_vectors}, of width {' and '.join(map(str, found.widths))}",
                "token": found.token or "the name of the file",
            }
        case ForeignFile():
            return {}


def _parts(found: CheckpointFile) -> Iterator[str]:
    yield "UNet"
    if number := len(found.text_encoders):
        yield f"{number} text encoders" if number > 1 else "text encoder"
    if found.vae:
        yield "VAE"
    if found.ema:
        yield "averaged weights of the UNet (EMA)"


def _facts_of_lora(found: LoraFile) -> dict[str, str]:
    convolutions = ", some of them 3×3 convolutions" if found.convolutions else ""
    layers = f"{found.num_layers} layers" if found.num_layers > 1 else "one layer"
    facts = {
        "changes": f"{_listed(found.parts)}: {layers}{convolutions}",
        "format": found.format,
        "rank": _range(found.ranks) or "none",
        "alpha": _range(found.alphas) or "that of the rank",
    }
    return facts | ({"embeddings": _listed(found.embeddings)} if found.embeddings else {})


def _stored(file: SafetensorsFile) -> dict[str, str]:
    types = Counter(info.dtype for info in file.tensors.values())
    counts = _listed(f"{number} {name}" for name, number in types.most_common())
    return {"tensors": f"{counts}; {file.size:,} bytes"}


def _recorded(file: SafetensorsFile) -> dict[str, str]:
    """Texts that the author's program wrote into the file."""
    texts = {label: file.metadata.get(name, "") for name, label in _RECORDED.items()}
    return {label: text[:_MAX_TEXT] for label, text in texts.items() if text not in ("", "None")}


def _hashes(file: SafetensorsFile) -> dict[str, str]:
    hashes = hashes_of(file)
    return {"sha256": hashes.sha256, "AutoV2": hashes.autov2, "AutoV3": hashes.autov3}


def _next_step(found: Found, path: str) -> str:
    command = command_for(found, shlex.quote(path))
    return command or f"cannot be exported: {advice_on(found)}"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def _range(numbers: Sequence[float]) -> str:
    """`16`, `4 to 64`, or nothing."""
    return " to ".join(f"{number:g}" for number in dict.fromkeys((*numbers[:1], *numbers[-1:])))
