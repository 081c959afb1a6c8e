"""CLIP's tokenizer: a prompt in, a row of token ids out, equal to transformers' CLIPTokenizerFast.

The byte-pair encoding is that of the `tokenizers` library; this file configures it from a
checkpoint's files, like transformers' `CLIPConverter` (convert_slow_tokenizer.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdrt.errors import BundleError, RequestError, quoted
from sdrt.text.embedding_tokens import Ids, ids_of_vectors
from sdrt.text.tokenizer_config import COPY_AGAIN, TokenizerConfig, read_json_object
from sdrt_engines.regular_file import read_regular

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Span: TypeAlias = tuple[int, int]  # of a token in its text

WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Tokens:
    """One tokenized prompt."""

    ids: NDArray[np.int64]  # (L,), with bos, eos and padding
    dropped: str  # the part of the prompt that did not fit, as written; "" if it all fit


@dataclass(frozen=True)
class ClipTokenizer:
    """Tokenizes like `CLIPTokenizerFast(text, padding="max_length", truncation=True)`.

    A token of an embedding with several vectors becomes several ids. Safe to share between threads.
    """

    backend: Tokenizer
    max_length: int
    vectors: Mapping[int, Ids] = field(default_factory=dict)  # see `ids_of_vectors`

    @classmethod
    def open(cls, folder: str | Path) -> ClipTokenizer:
        """The tokenizer in a checkpoint's `tokenizer/` folder.

        Reads vocab.json and merges.txt, or tokenizer.json if only that exists, and the
        configuration files. Raises BundleError naming the file that is missing or broken.
        """
        folder = Path(folder)
        config = TokenizerConfig.from_folder(folder)
        if (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
            backend = backend_from_json(folder / "tokenizer.json")
        else:
            backend = backend_from_merges(folder, config.roles)
        add_tokens(backend, config, folder)
        pad_token = config.roles["pad_token"]
        backend.enable_truncation(config.max_length, direction=config.truncation_side)
        backend.enable_padding(
            direction=config.padding_side,
            length=config.max_length,
            pad_token=pad_token,
            pad_id=backend.token_to_id(pad_token),
        )
        return cls(backend, config.max_length, ids_of_vectors(backend))

    def encode(self, text: str) -> Tokens:
        """The ids of one prompt, int64 (max_length,).

        Raises RequestError for a string that cannot be written as UTF-8.
        """
        if self.vectors:
            return self._cut(text)
        encoding = self._encoding(text)
        return Tokens(np.asarray(encoding.ids, dtype=np.int64), dropped_text(text, encoding))

    def token_ids(self, text: str) -> tuple[Ids, ...]:
        """The ids of each token of a text of any length, without bos, eos and padding: one, or
        those of an embedding's vectors. Raises as `encode`."""
        return tuple(ids for ids, _ in self._tokens(text))

    def _cut(self, text: str) -> Tokens:
        """The same as `encode`, for tokens of several ids."""
        placed = [(index, span) for ids, span in self._tokens(text) for index in ids]
        first = 0
        if self.backend.truncation["direction"] == "left":
            first = max(len(placed) - self.capacity, 0)
        last = first + self.capacity
        row = self.row([index for index, _ in placed[first:last]])
        dropped = [span for _, span in (*placed[:first], *placed[last:])]
        return Tokens(np.array(row, np.int64), _text_of(text, dropped))

    def _tokens(self, text: str) -> list[tuple[Ids, Span]]:
        """The ids of each token, with its place in the text."""
        encoding = self._encoding(text, add_special_tokens=False)
        parts = sorted([encoding, *encoding.overflowing], key=lambda part: part.offsets[0])
        return [
            (self.vectors.get(index, (index,)), span)
            for part in parts
            for index, span, is_token in zip(
                part.ids, part.offsets, part.attention_mask, strict=True
            )
            if is_token
        ]

    def row(self, ids: Sequence[int]) -> Ids:
        """A row of `max_length` ids: these, `capacity` at most, with bos, eos and padding."""
        before, after, padding, pads_left = self._frame
        marked = (*before, *ids, *after)
        padding = padding * (self.max_length - len(marked))
        return (*padding, *marked) if pads_left else (*marked, *padding)

    def place(self, num_ids: int) -> slice:
        """The places of so many ids in a row."""
        before, _, _, pads_left = self._frame
        start = len(before) + (self.capacity - num_ids if pads_left else 0)
        return slice(start, start + num_ids)

    @property
    def capacity(self) -> int:
        """The number of a row's ids that belong to its text."""
        before, after, *_ = self._frame
        return self.max_length - len(before) - len(after)

    @cached_property
    def comma(self) -> int | None:
        """The id of a comma that is a word."""
        index: int | None = self.backend.token_to_id(",</w>")
        return index

    @cached_property
    def _frame(self) -> tuple[list[int], list[int], list[int], bool]:
        """The surroundings of a text's ids: bos, eos, one id of padding, and its side."""
        empty = self._encoding("")
        ids: dict[int, list[int]] = {0: [], 1: []}  # by the mask: padding, and what counts
        for index, counts in zip(empty.ids, empty.attention_mask, strict=True):
            ids[counts].append(index)
        return ids[1][:1], ids[1][1:], ids[0][:1], not empty.attention_mask[0]

    def _encoding(self, text: str, *, add_special_tokens: bool = True) -> Encoding:
        try:
            text.encode()
        except UnicodeEncodeError as error:  # half a surrogate pair: a terminal's other encoding
            raise RequestError(
                f"prompt: got {quoted(text)}, which cannot be encoded as UTF-8: "
                "type it again, or read it from a UTF-8 file"
            ) from error
        with tokenizers_errors(lambda: "the tokenizer of this bundle fails on the prompt"):
            return self.backend.encode(text, add_special_tokens=add_special_tokens)


@contextmanager
def tokenizers_errors(failure: Callable[[], str]) -> Iterator[None]:
    """Translates exceptions of the library in the block, which raises plain ones, and those of Rust
    that Python's `except Exception` misses, into BundleErrors; `failure` begins the message."""
    try:
        yield
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"  # such as a regex that takes forever
        if not panic and not isinstance(error, Exception):
            raise
        raise BundleError(f"{failure()}: {error}: {COPY_AGAIN}") from error


def dropped_text(text: str, encoding: Encoding) -> str:
    """The part of `text` that truncation removed, found by the positions of its tokens."""
    spans = [
        span
        for part in encoding.overflowing
        for span, is_special in zip(part.offsets, part.special_tokens_mask, strict=True)
        if not is_special  # bos, eos and padding have no position in the text
    ]
    return _text_of(text, spans)


def _text_of(text: str, spans: Sequence[Span]) -> str:
    """The part of a text from its first span to its last."""
    if not spans:
        return ""
    return text[min(start for start, _ in spans) : max(end for _, end in spans)]


def backend_from_merges(folder: Path, roles: Mapping[str, str]) -> Tokenizer:
    """The pipeline that CLIPConverter builds from vocab.json and merges.txt."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    vocab = read_json_object(folder / "vocab.json")
    merges = read_merges(folder / "merges.txt", vocab)
    with tokenizers_errors(lambda: f"{folder / 'vocab.json'} is not a vocabulary"):
        model = models.BPE(
            vocab,
            merges,
            unk_token=roles["unk_token"],
            end_of_word_suffix="</w>",
            continuing_subword_prefix="",
        )
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.post_processor = processors.RobertaProcessing(
        id_of(backend, roles["eos_token"], folder),
        id_of(backend, roles["bos_token"], folder),
        trim_offsets=False,
        add_prefix_space=False,
    )
    return backend


def backend_from_json(path: Path) -> Tokenizer:
    """The pipeline in a tokenizer.json."""
    from tokenizers import Tokenizer

    with tokenizers_errors(lambda: f"{path} is not a saved tokenizer"):
        return Tokenizer.from_buffer(read_regular(path))


def read_merges(path: Path, vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    """The pairs of merges.txt, in order; its first line is a version.

    Raises BundleError. A pair that does not make a token of the vocabulary is rejected here,
    because the library panics on it.
    """
    try:
        lines = read_regular(path).decode().strip().split("\n")
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}: {COPY_AGAIN}") from error
    merges = []
    for number, line in enumerate(lines[1:], start=2):
        left, _, right = line.partition(" ")
        if not (left in vocab and right in vocab and left + right in vocab):
            raise BundleError(
                f"{path}, line {number}: {line!r} is not two tokens of vocab.json that make a "
                f"third: {COPY_AGAIN}"
            )
        merges.append((left, right))
    return merges


def add_tokens(backend: Tokenizer, config: TokenizerConfig, folder: Path) -> None:
    """Registers the added tokens. Raises BundleError if an id differs from the configuration.

    A token of tokenizer.json keeps its flags unless the configuration declares others.
    """
    from tokenizers import AddedToken

    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    with tokenizers_errors(lambda: f"{folder}: its tokens cannot be added"):
        backend.add_tokens(
            [
                AddedToken(token.content, **token.flags)
                for token in config.added_tokens
                if token.id is not None or token.content not in known
            ]
        )
    for token in config.added_tokens:
        found = backend.token_to_id(token.content)
        if token.id is not None and token.id != found:
            raise BundleError(
                f"{folder}: {token.content!r} is token {found} by the vocabulary and {token.id} by "
                f"the configuration: {COPY_AGAIN}"
            )


def id_of(backend: Tokenizer, token: str, folder: Path) -> tuple[str, int]:
    """A special token with its id. Raises BundleError if the vocabulary lacks it."""
    with tokenizers_errors(lambda: f"{folder}: {token!r} is not a text"):
        index = backend.token_to_id(token)
    if index is None:
        raise BundleError(
            f"{folder / 'vocab.json'} has no {token!r}, which CLIP puts around every prompt. "
            + COPY_AGAIN
        )
    return token, index
