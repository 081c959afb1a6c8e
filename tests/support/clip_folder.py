"""Writes small tokenizer folders that are CLIP's except for the size of the vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

CORPUS = """
a large red circle on the left on a white background; a small blue star on a black ground, centred!
the artist's brush, we'll see, they've painted it, don't you think? I'm sure you'd like it: they're
1024 pixels wide, a photograph of an astronaut riding a horse, highly detailed, 4k, trending,
by the sea, over the hills and far away. ein großer grüner Würfel, une café très élégant,
el niño pequeño, красный круг на белом фоне, 你好世界 一个红色的圆
"""
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
SD1_CONFIG: Mapping[str, object] = {
    "bos_token": BOS,
    "eos_token": EOS,
    "unk_token": EOS,
    "pad_token": EOS,
    "model_max_length": 77,
    "tokenizer_class": "CLIPTokenizer",
}


@cache
def clip_vocabulary() -> tuple[dict[str, int], tuple[str, ...]]:
    """A vocabulary in CLIP's order (bytes, bytes ending words, merges, bos, eos) and its merges."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator([CORPUS] * 3, trainer)
    pairs = json.loads(tokenizer.to_str())["model"]["merges"]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *map("".join, pairs), BOS, EOS]
    return {token: index for index, token in enumerate(tokens)}, tuple(map(" ".join, pairs))


def write_clip_folder(folder: Path, config: Mapping[str, object] = SD1_CONFIG) -> Path:
    """vocab.json, merges.txt and tokenizer_config.json in `folder`, which is created and
    returned."""
    vocab, merges = clip_vocabulary()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    write_json(folder / "tokenizer_config.json", config)
    return folder


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
