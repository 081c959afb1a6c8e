"""The LoRAs that are given to an export: which file is meant, and what is recorded of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sdrt.errors import FileError
from sdrt_export.checkpoints.loras import Loras, loras_from_sources
from sdrt_export.errors import CheckpointError
from support.hub_server import hub_server
from support.lora_files import layer_for, peft, write_lora

pytestmark = pytest.mark.export

LAYER = layer_for("unet", "mid_block.attentions.0.proj_in", (8, 8), 2)


@pytest.fixture
def style(tmp_path: Path) -> Path:
    return write_lora(tmp_path / "style.safetensors", [LAYER])


def names_and_scales(loras: Loras) -> list[tuple[str, float]]:
    return [(lora.record.name, lora.scale) for lora in loras_from_sources(loras)]


def test_ways_to_give_them(style: Path, tmp_path: Path) -> None:
    other = write_lora(tmp_path / "my lora: v1.1 (x).safetensors", [LAYER])
    second = ("my lora: v1.1 (x)", -2.0)
    assert names_and_scales([]) == []
    assert names_and_scales([style]) == [("style", 1.0)]
    assert names_and_scales([str(style), (other, -2)]) == [("style", 1.0), second]
    assert names_and_scales({other: -2.0, style: 0.8}) == [second, ("style", 0.8)]


def test_what_is_recorded(style: Path) -> None:
    (lora,) = loras_from_sources([(style, 0.8)])
    content = style.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    assert lora.record.kind == "lora"
    assert lora.record.sha256 == hashlib.sha256(content).hexdigest()
    assert lora.record.short_hash == hashlib.sha256(content[header:]).hexdigest()[:12]
    assert lora.record.scale == 0.8


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), "0.8", None, True])
def test_a_scale_is_a_number(style: Path, scale: Any) -> None:
    with pytest.raises(CheckpointError, match=rf"got the scale {scale!r}, expected a number"):
        loras_from_sources([(style, scale)])


def test_a_folder_with_one_file(style: Path, tmp_path: Path) -> None:
    assert names_and_scales([tmp_path]) == [(tmp_path.name, 1.0)]
    write_lora(tmp_path / "b.safetensors", [LAYER])
    message = r"has 'b.safetensors', 'style.safetensors': name the file of the LoRA"
    with pytest.raises(CheckpointError, match=message):
        loras_from_sources([tmp_path])
    write_lora(tmp_path / "pytorch_lora_weights.safetensors", [LAYER])
    (lora,) = loras_from_sources([tmp_path])
    assert lora.lora.file.path.name == "pytorch_lora_weights.safetensors"


@pytest.mark.parametrize("source", ["gone.safetensors", "a/gone.safetensors", "C:\\gone:O.8", ""])
def test_there_is_no_file(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = {"": "has no safetensors file: name the file"}
    message = kinds.get(source, "no LoRA at .* expected a safetensors file or a Hub id")
    with pytest.raises(CheckpointError, match=message):
        loras_from_sources([source])


def test_broken_ones(style: Path) -> None:
    content = style.read_bytes()
    style.write_bytes(content[:-1])
    with pytest.raises(FileError, match="not a complete safetensors file"):
        loras_from_sources([style])
    style.write_bytes(content[:-4] + b"\xff\xff\xff\x7f")
    with pytest.raises(FileError, match="holds NaN or infinity"):
        loras_from_sources([style])


PROGRAM = """
import sys
from sdrt.errors import SdrtError
from sdrt_export.checkpoints.loras import loras_from_sources
try:
    (lora,) = loras_from_sources([sys.argv[1]])
    print(lora.record.name, lora.lora.file.path.name)
except SdrtError as error:
    print(error)
print(sorted({"torch", "safetensors"} & set(sys.modules)))
"""


def test_one_from_the_hub(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    write_lora(folder / "adapter_model.safetensors", [LAYER], peft)
    (folder / "adapter_config.json").write_text('{"lora_alpha": 2}')
    (folder / "adapter_model.bin").write_bytes(b"a pickle")
    with hub_server("somebody/style", folder) as server:
        settings = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path)}
        result = subprocess.run(
            [sys.executable, "-c", PROGRAM, "somebody/style"],
            capture_output=True,
            text=True,
            env=os.environ
            | settings
            | {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        )
    assert result.stdout.splitlines() == ["style adapter_model.safetensors", "[]"]
    assert sorted(server.sent) == ["adapter_config.json", "adapter_model.safetensors"]
