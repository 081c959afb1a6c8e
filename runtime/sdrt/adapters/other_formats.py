"""Files that are taken for safetensors, by their first bytes, and what to do with each."""

from __future__ import annotations

import shlex
from pathlib import Path

from sdrt.errors import quoted

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_PICKLE = "a pickle"
_KINDS = {  # by their first bytes
    b"PK\x03\x04": _PICKLE,  # torch.save since 1.6
    **{bytes([0x80, protocol]): _PICKLE for protocol in range(2, 6)},
    b"GGUF": "a GGUF file",
    b"version https://git-lfs": "a pointer of Git LFS",
    b"<": "a web page",
    b"{": "a JSON file",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"RIFF": "an image",
}
_REMEDIES = {
    "a GGUF file": "its weights are quantised for other programs: give the safetensors file of it",
    "a pointer of Git LFS": "`git lfs pull` fetches the file itself",
    "a web page": "the download failed, or needs a login: download the file again",
    "a JSON file": "give the weights themselves, or the folder that they are in",
    "an image": "embeddings in images are not read: give a safetensors file",
}


def refusal_of_other(path: Path, start: bytes) -> str:
    """The message about the file at `path`, which begins with `start` and is not safetensors."""
    kinds = [kind for magic, kind in _KINDS.items() if start.startswith(magic)]
    if kinds == [_PICKLE] or (not kinds and path.suffix in PICKLES):
        return (
            f"'{path}' is a pickle, which runs code when it is loaded, so sdrt refuses it: "
            f"save it as safetensors: {conversion_of_pickle(path)}"
        )
    if kinds:
        return f"'{path}' is {kinds[0]}, expected safetensors: {_REMEDIES[kinds[0]]}"
    return (
        f"'{path}' is not a safetensors file: it begins with {quoted(start[:12])}, expected the "
        "length of a JSON header: download or save it again"
    )


def conversion_of_pickle(path: Path) -> str:
    """A shell command that saves the tensors of a pickle as safetensors, without running its
    code."""
    program = (
        "import torch; from safetensors.torch import save_file; "
        f"t = torch.load({str(path)!r}, 'cpu', weights_only=True); "
        "t = t.get('state_dict', t.get('string_to_param', t)); "
        "save_file({k: v.detach().clone() for k, v in t.items() if torch.is_tensor(v)}, "
        f"{str(path.with_suffix('.safetensors'))!r})"
    )
    return f"python -c {shlex.quote(program)}"
