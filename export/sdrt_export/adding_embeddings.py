"""A bundle's text encoders and tokenizers with the tokens of further embeddings."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sdrt.adapters.embeddings import Embedding
from sdrt.bundle.file_records import sealed_file, verify_network
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Component
from sdrt.errors import quoted
from sdrt.families.family import Encoder, Family
from sdrt.files.json_fields import JsonFields
from sdrt_export.checkpoints.embeddings import tokens_of_encoders
from sdrt_export.checkpoints.new_tokens import NewTokens, write_tokens
from sdrt_export.checkpoints.parts import CONFIG_NAME
from sdrt_export.errors import CheckpointError, ExportError, missing_library_as
from sdrt_export.replacing import files_of_networks, free_name


def tokens_for_bundle(bundle: Bundle, embeddings: Sequence[Embedding]) -> dict[str, NewTokens]:
    """The tokens that embeddings add to each text encoder, by its name; none without embeddings.

    CheckpointError for an embedding of other widths, or a name that is taken.
    """
    if not embeddings:
        return {}
    _require_new(embeddings, bundle)
    encoders = {}
    for each in bundle.family.text.encoders:
        config = JsonFields(bundle.component_config(each.component))
        folder = bundle.tokenizer_folder(each.tokenizer)
        encoders[each.component] = folder, config.integer("hidden_size", 512)
    return tokens_of_encoders(embeddings, encoders)


def _require_new(embeddings: Sequence[Embedding], bundle: Bundle) -> None:
    taken = {each.name for each in bundle.manifest.merged if each.kind == "embedding"}
    for embedding in embeddings:
        if embedding.token in taken:
            raise CheckpointError(
                f"'{bundle.root}' already has an embedding {quoted(embedding.token)}, which stays "
                "in its text encoder: choose another name (--embedding NAME=PATH), or export the "
                "checkpoint again"
            )


def files_of_encoders(bundle: Bundle) -> tuple[str, ...]:
    """The recorded files of a bundle's text encoders and tokenizers."""
    encoders = bundle.family.text.encoders
    folders = tuple(f"{each.tokenizer}/" for each in encoders)
    return (
        *files_of_networks(bundle.manifest, (each.component for each in encoders)),
        *(file.path for file in bundle.manifest.files if file.path.startswith(folders)),
    )


def write_extended_encoders(
    bundle: Bundle, tokens: Mapping[str, NewTokens], draft: Path
) -> tuple[Family, tuple[Component, ...]]:
    """Writes the text encoders with new tokens, and their tokenizers, into folders of `draft` whose
    names are free in the bundle; the family and the components with these folders."""
    text = bundle.family.text
    extended = [each for each in text.encoders if each.component in tokens]
    components = tuple(
        _written_encoder(bundle, each, tokens[each.component], draft) for each in extended
    )
    encoders = tuple(
        _written_tokenizer(bundle, each, tokens[each.component], draft) for each in extended
    )
    if encoders:
        text = replace(text, encoders=encoders)
    return replace(bundle.family, text=text), components


def _written_encoder(bundle: Bundle, encoder: Encoder, tokens: NewTokens, draft: Path) -> Component:
    with missing_library_as(ExportError, "an embedding", "'sdrt[export]'"):
        from sdrt_export.token_table import write_extended  # imports onnx
    component = bundle.component(encoder.component)
    verify_network(bundle.root, component.files)
    folder = draft / free_name(component.name, bundle.root)
    folder.mkdir()
    model = bundle.root / component.model
    paths = write_extended(model, folder, tokens, pools=encoder.pooled is not None)
    config = bundle.component_config(component.name)
    config["vocab_size"] = tokens.num_rows(JsonFields(config).integer("vocab_size"))
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2), encoding="utf-8")
    return replace(
        component,
        model=paths[0].relative_to(draft).as_posix(),
        files=tuple(sealed_file(draft, path) for path in paths),
    )


def _written_tokenizer(bundle: Bundle, encoder: Encoder, tokens: NewTokens, draft: Path) -> Encoder:
    plain = re.sub(r"-\d+$", "", encoder.tokenizer)  # which an earlier change has made
    name = free_name(plain, bundle.root)
    shutil.copytree(bundle.tokenizer_folder(encoder.tokenizer), draft / name)
    write_tokens(draft / name, tokens)
    return replace(encoder, tokenizer=name)
