"""The demo's tokenizer (CLIP's format, learnt from the captions) and its CLIP text encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sdrt_export.demo.grammar import (
    ALL_SCENES,
    COLOURS,
    POSITIONS,
    SHAPES,
    SIZES,
    Scene,
    caption_from_scene,
    draw_caption,
)
from sdrt_export.demo.loop import Schedule, train

MAX_LENGTH = 32  # tokens; the longest caption needs 16
HIDDEN_SIZE = 96
READING = Schedule(num_steps=500, learning_rate=2e-3, averaging=0.98)
BATCH = 128

_WORD_END = "</w>"
_START, _END = "<|startoftext|>", "<|endoftext|>"
_CHOICES = {
    "shape": SHAPES,
    "colour": COLOURS,
    "ground": COLOURS,
    "size": SIZES,
    "position": POSITIONS,
}


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """Learns the merges from captions and writes a CLIP tokenizer's files into `folder`."""
    rng = np.random.default_rng(0)
    captions = [draw_caption(ALL_SCENES[i], rng) for i in rng.integers(len(ALL_SCENES), size=4000)]
    merges = _learn_merges([*captions, *map(caption_from_scene, ALL_SCENES)])
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [
        *letters,
        *(letter + _WORD_END for letter in letters),
        *map("".join, merges),
        _START,
        _END,
    ]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = CLIPTokenizer(
        folder / "vocab.json", folder / "merges.txt", model_max_length=MAX_LENGTH, pad_token=_END
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def _learn_merges(captions: list[str]) -> list[tuple[str, str]]:
    learner = Tokenizer(models.BPE(end_of_word_suffix=_WORD_END))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    learner.train_from_iterator(
        captions,
        trainers.BpeTrainer(vocab_size=2000, end_of_word_suffix=_WORD_END, show_progress=False),
    )
    return [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The untrained text encoder, 0.4 M parameters."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN_SIZE,
            intermediate_size=4 * HIDDEN_SIZE,
            projection_dim=HIDDEN_SIZE,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def tokens_from_captions(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """`(B, 32)` token ids."""
    return tokenizer(
        captions, padding="max_length", truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
    ).input_ids


def train_to_read(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, work: Path) -> CLIPTextModel:
    """Trains the text encoder to distinguish a caption's attributes, before the UNet needs them.

    A randomly initialised text encoder gives the UNet nearly equal vectors for all captions; half a
    minute of classification makes the UNet's conditioning learn about ten times faster.
    """
    heads = nn.ModuleDict(
        {name: nn.Linear(HIDDEN_SIZE, len(kinds)) for name, kinds in _CHOICES.items()}
    )
    reader = nn.ModuleDict({"encoder": encoder, "heads": heads})

    def loss_at(step: int, rng: np.random.Generator) -> torch.Tensor:
        scenes = [ALL_SCENES[i] for i in rng.integers(len(ALL_SCENES), size=BATCH)]
        captions = [draw_caption(scene, rng) for scene in scenes]
        hidden = encoder(tokens_from_captions(tokenizer, captions)).last_hidden_state.mean(1)
        losses = [
            functional.cross_entropy(heads[name](hidden), _labels(scenes, name))
            for name in _CHOICES
        ]
        return torch.stack(losses).sum()

    average = train("text encoder", reader, loss_at, READING, work / "text_encoder.pt")
    return average["encoder"]


def _labels(scenes: list[Scene], name: str) -> torch.Tensor:
    return torch.tensor([_CHOICES[name].index(getattr(scene, name)) for scene in scenes])
