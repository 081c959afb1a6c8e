"""The tokenizers of a bundle and its refiner."""

from __future__ import annotations

from sdrt.bundle.folder import Bundle
from sdrt.text.clip_tokenizer import ClipTokenizer


class Tokenizers:
    """Gives the tokenizer in a folder of a bundle, opened once."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._open: dict[str, ClipTokenizer] = {}

    def __call__(self, folder: str) -> ClipTokenizer:
        if folder not in self._open:
            bundle, own = self._bundle.owner_of(folder)
            self._open[folder] = ClipTokenizer.open(bundle.tokenizer_folder(own))
        return self._open[folder]
