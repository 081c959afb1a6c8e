"""The configuration of a tokenizer folder, merged from its files as transformers does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdrt.errors import BundleError
from sdrt.files.json_fields import JsonFields, wrong_value
from sdrt_engines.regular_file import read_regular

DEFAULT_ROLES = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}
COPY_AGAIN = "copy the whole tokenizer folder again, from one checkpoint"
# Every file that a tokenizer's folder may hold and sdrt reads.
TOKENIZER_FILES = (
    *("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json"),
)
_MALFORMED = AttributeError, KeyError, OverflowError, TypeError, ValueError
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")

DEFAULT_MAX_LENGTH = 77
# transformers writes int(1e30) for an unset length; CLIP has far fewer positions.
NO_MAX_LENGTH = 1_000_000


@dataclass(frozen=True)
class AddedToken:
    """A token that is searched for in the prompt before the prompt is split into words."""

    content: str
    flags: Mapping[str, bool]  # of `tokenizers.AddedToken`
    id: int | None  # set by the configuration; None: by the vocabulary


@dataclass(frozen=True)
class TokenizerConfig:
    """The configuration of a tokenizer. Defaults are those of transformers' CLIPTokenizer."""

    roles: Mapping[str, str] = field(default_factory=lambda: DEFAULT_ROLES)
    added_tokens: tuple[AddedToken, ...] = ()
    max_length: int = DEFAULT_MAX_LENGTH
    padding_side: str = "right"
    truncation_side: str = "right"

    def __post_init__(self) -> None:
        if self.max_length < 3:
            raise ValueError(f"model_max_length is {self.max_length}, expected at least 3")
        if not self.roles["pad_token"]:
            raise ValueError("pad_token is empty")
        for name in ("padding_side", "truncation_side"):
            if getattr(self, name) not in ("left", "right"):
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected 'left' or 'right'")

    @classmethod
    def from_folder(cls, folder: Path) -> TokenizerConfig:
        """Reads tokenizer_config.json and the files of older checkpoints; any may be missing.

        Raises BundleError for a malformed file.
        """
        values = read_values(folder)
        try:
            return config_from_values(values)
        except (*_MALFORMED, BundleError) as error:
            reason = f"no {error} in a token" if isinstance(error, KeyError) else str(error)
            raise BundleError(
                f"{folder / 'tokenizer_config.json'} is not CLIP's: {reason}: {COPY_AGAIN}"
            ) from error


def read_values(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, overlaid with the two files of older checkpoints if they apply."""
    values = read_json_object(folder / "tokenizer_config.json", optional=True)
    if "added_tokens_decoder" in values:
        return values
    values |= read_json_object(folder / "special_tokens_map.json", optional=True)
    added = read_json_object(folder / "added_tokens.json", optional=True)
    return values | {
        "added_tokens_decoder": {index: {"content": token} for token, index in added.items()}
    }


def config_from_values(values: Mapping[str, Any]) -> TokenizerConfig:
    """The configuration in the merged values."""
    set_roles = {role: values[role] for role in DEFAULT_ROLES if values.get(role) is not None}
    roles = DEFAULT_ROLES | {role: content_of(entry) for role, entry in set_roles.items()}
    max_length = int(values.get("model_max_length") or DEFAULT_MAX_LENGTH)
    return TokenizerConfig(
        roles=roles,
        added_tokens=added_tokens(values["added_tokens_decoder"], set_roles, roles),
        max_length=max_length if max_length < NO_MAX_LENGTH else DEFAULT_MAX_LENGTH,
        padding_side=values.get("padding_side", "right"),
        truncation_side=values.get("truncation_side", "right"),
    )


def added_tokens(
    declared: Mapping[str, Mapping[str, Any]],
    set_roles: Mapping[str, Any],
    roles: Mapping[str, str],
) -> tuple[AddedToken, ...]:
    """The declared tokens in the order of their ids, then those that only have a role."""
    tokens = [
        added_token({"special": entry["content"] in roles.values()} | dict(entry), int(index))
        for index, entry in sorted(declared.items(), key=lambda item: int(item[0]))
    ]
    for role, content in roles.items():
        if content in {token.content for token in tokens}:
            continue
        entry = set_roles.get(role)
        if not isinstance(entry, Mapping):
            # CLIPTokenizer searches the original text for padding, and lower-case text for the
            # others. (transformers 5 no longer finds <|EndOfText|>, which CLIP itself does.)
            entry = {"content": content, "normalized": role != "pad_token"}
        tokens.append(added_token({**entry, "special": True}, None))
    return tuple(tokens)


def added_token(entry: Mapping[str, Any], index: int | None) -> AddedToken:
    """A token from a configuration's entry, with the defaults of `tokenizers.AddedToken`."""
    flags = {flag: bool(entry[flag]) for flag in FLAGS if flag in entry}
    if not isinstance(entry["content"], str):
        raise wrong_value("content", entry["content"], "a text")
    return AddedToken(entry["content"], flags, index)


def content_of(token: str | Mapping[str, Any]) -> str:
    """The text of a special token: configurations hold a string, or an object with its flags."""
    content = token if isinstance(token, str) else token["content"]
    if not isinstance(content, str):
        raise wrong_value("content", content, "a text")
    return content


def read_json_object(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """The JSON object in a file; {} for an optional file that is missing. Raises BundleError."""
    if optional and not path.exists():
        return {}
    try:
        return JsonFields.parse(read_regular(path)).values
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}: {COPY_AGAIN}") from error
    except BundleError as error:
        raise BundleError(f"{path} cannot be read: {error}: {COPY_AGAIN}") from error
