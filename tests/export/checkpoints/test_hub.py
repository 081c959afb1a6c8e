"""Checkpoints from the Hub, through its own library, from a server on localhost."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.hub_server import COMMIT, hub_server

pytestmark = pytest.mark.export

REPO = "somebody/tiny-stable-diffusion"
PROGRAM = """
import sys
from sdrt.errors import SdrtError
from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
try:
    checkpoint = checkpoint_from_source(sys.argv[1])
    print(checkpoint.folder, checkpoint.source)
except SdrtError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def find(source: str, url: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`checkpoint_from_source` in a new process: the Hub's library reads its settings once."""
    variables = {"HF_ENDPOINT": url, "HF_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, source],
        capture_output=True,
        text=True,
        env=os.environ | variables | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} | environment,
        cwd=home,
        check=False,
    )


@pytest.fixture
def repository(checkpoint: Path, tmp_path: Path) -> Path:
    """A typical repository on the Hub: the checkpoint, and more files than an export needs."""
    folder = shutil.copytree(checkpoint, tmp_path / "repository")
    (folder / "README.md").write_text("# A model")
    for name in ("v1-5-pruned.ckpt", "unet/diffusion_pytorch_model.bin"):
        (folder / name).write_bytes(b"a pickle")
    shutil.copy(
        folder / "unet" / "diffusion_pytorch_model.safetensors",
        folder / "unet" / "diffusion_pytorch_model.fp16.safetensors",
    )
    return folder


def test_only_what_an_export_reads_is_downloaded_and_then_kept(
    repository: Path, tmp_path: Path
) -> None:
    with hub_server(REPO, repository) as server:
        first = find(REPO, server.url, tmp_path)
        assert first.returncode == 0, first.stderr
        sent = set(server.sent)
    offline = find(REPO, server.url, tmp_path, HF_HUB_OFFLINE="1")

    folder, source = first.stdout.split()
    weights = {name for name in sent if name.endswith((".safetensors", ".bin", ".ckpt"))}
    assert weights == {
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert "README.md" not in sent
    assert source == f"{REPO}@{COMMIT}"
    assert {path.name for path in Path(folder, "tokenizer").iterdir()} == {
        path.name for path in (repository / "tokenizer").iterdir()
    }
    assert offline.stdout == first.stdout, offline.stderr


def test_a_family_that_is_not_exported_costs_no_weights(repository: Path, tmp_path: Path) -> None:
    index = json.loads((repository / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusion3Pipeline"
    (repository / "model_index.json").write_text(json.dumps(index))
    with hub_server(REPO, repository) as server:
        refused = find(REPO, server.url, tmp_path)
    assert refused.returncode == 1
    assert f"CheckpointError: '{REPO}' cannot be exported: _class_name: got" in refused.stderr
    assert not any(name.endswith(".safetensors") for name in server.sent)


def test_a_pipeline_without_a_unet_is_named(repository: Path, tmp_path: Path) -> None:
    index = json.loads((repository / "model_index.json").read_text())
    index["_class_name"] = "FluxPipeline"
    (repository / "model_index.json").write_text(json.dumps(index))
    (repository / "unet").rename(repository / "transformer")
    with hub_server(REPO, repository) as server:
        refused = find(REPO, server.url, tmp_path)
    assert (
        f"CheckpointError: '{REPO}' cannot be exported: _class_name: got 'FluxPi" in refused.stderr
    )
    assert not any(name.endswith(".safetensors") for name in server.sent)


def test_pickles_are_refused_before_they_are_downloaded(repository: Path, tmp_path: Path) -> None:
    for path in repository.rglob("*.safetensors"):
        path.unlink()
    with hub_server(REPO, repository) as server:
        refused = find(REPO, server.url, tmp_path)
    assert f"CheckpointError: '{REPO}' has pickled weights" in refused.stderr
    assert server.sent == []


@pytest.mark.parametrize(
    ("repo", "gated", "message"),
    [
        ("nobody/nothing", False, "is neither a folder here nor a checkpoint on the Hub"),
        (REPO, True, f"is gated: accept its terms on https://huggingface.co/{REPO}"),
    ],
)
def test_what_the_hub_refuses_is_reported(
    repo: str, gated: bool, message: str, repository: Path, tmp_path: Path
) -> None:
    with hub_server(REPO, repository, gated) as server:
        refused = find(repo, server.url, tmp_path)
    assert refused.returncode == 1
    assert f"CheckpointError: '{repo}' {message}" in refused.stderr


def test_no_network_and_nothing_in_the_cache_is_reported(repository: Path, tmp_path: Path) -> None:
    with hub_server(REPO, repository) as server:
        pass
    refused = find(REPO, server.url, tmp_path)
    assert refused.stderr == (
        f"CheckpointError: '{REPO}' is not a folder here, and the Hub does not answer: "
        "check the network, or export from a folder\n"
    )
