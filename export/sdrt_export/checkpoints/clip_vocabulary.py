"""CLIP's tokenizer, which single files lack: its vocabulary is read from an installed package."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Final

from sdrt_export.errors import CheckpointError

# Packages that contain the file; none of them is imported. open_clip is open-clip-torch, clip is
# OpenAI's own and clip-anytorch.
_PACKAGES: Final = ("open_clip", "clip")
_FILE: Final = "bpe_simple_vocab_16e6.txt.gz"
_NUM_MERGES: Final = 48_894  # after a line with the version; CLIP does not use those that follow

START, END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"


def vocabulary_file() -> Path:
    """The vocabulary in an installed package. CheckpointError if none has it."""
    for name in _PACKAGES:
        spec = find_spec(name)
        for folder in (spec and spec.submodule_search_locations) or ():
            if (path := Path(folder, _FILE)).is_file():
                return path
    raise CheckpointError(
        "a single file has no tokenizer, and CLIP's vocabulary is read from a package that is not "
        "installed: pip install --no-deps open-clip-torch"
    )


def write_tokenizer(folder: Path, merges: Sequence[str], pad_token: str, max_length: int) -> None:
    """Writes the tokenizer of a text encoder, as transformers' CLIPTokenizer saves it.

    Source: `SimpleTokenizer` of CLIP, which numbers bytes, bytes that end a word, merges and marks.
    """
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    joined = (merge.replace(" ", "") for merge in merges)
    tokens = [*letters, *(letter + _WORD_END for letter in letters), *joined, START, END]
    folder.mkdir(parents=True)
    numbers = {token: number for number, token in enumerate(tokens)}
    vocab = json.dumps(numbers, ensure_ascii=False)  # in one line: many times as fast
    (folder / "vocab.json").write_text(vocab, encoding="utf-8")
    text = "\n".join(["#version: 0.2", *merges, ""])
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    roles = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad_token}
    write_json(folder / "special_tokens_map.json", roles)
    kind = {"tokenizer_class": "CLIPTokenizer", "model_max_length": max_length}
    write_json(folder / "tokenizer_config.json", {**roles, **kind})


def clip_merges(vocabulary: Path) -> list[str]:
    """The merges of CLIP's tokenizer. CheckpointError if the file is damaged."""
    try:
        with gzip.open(vocabulary, "rt", encoding="utf-8") as lines:
            merges = [line.rstrip("\n") for line in islice(lines, 1, _NUM_MERGES + 1)]
    except (OSError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{vocabulary}: not CLIP's vocabulary ({error}): install its package again"
        ) from error
    if len(merges) < _NUM_MERGES:
        raise CheckpointError(
            f"{vocabulary}: got {len(merges)} merges, expected {_NUM_MERGES} or more: install its "
            "package again"
        )
    return merges


def write_json(path: Path, value: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")
