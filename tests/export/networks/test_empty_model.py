"""Networks without weights: the same graphs and files as with them."""

from itertools import chain
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.networks.empty_model import empty_model
from sdrt_export.networks.loading import parts_from_checkpoint
from sdrt_export.tracing.onnx_from_network import write_variants

pytestmark = pytest.mark.export


def test_weights_take_no_memory_and_buffers_are_computed() -> None:
    config = CLIPTextConfig(hidden_size=64, num_hidden_layers=2, intermediate_size=128)
    model = empty_model(lambda: CLIPTextModel(config))
    state = CLIPTextModel(config).state_dict()

    weights = model.state_dict()
    assert {name: weight.shape for name, weight in weights.items()} == {
        name: weight.shape for name, weight in state.items()
    }
    assert {weight.untyped_storage().nbytes() for weight in weights.values()} == {4}
    buffers = dict(model.named_buffers())
    (position_ids,) = (buffer for name, buffer in buffers.items() if "position_ids" in name)
    assert torch.equal(position_ids, torch.arange(77)[None])


def test_files_are_those_of_a_model_with_weights(
    checkpoint: Path, bundle: Path, tmp_path: Path
) -> None:
    """Byte for byte: graphs, names and values."""
    for part in parts_from_checkpoint(checkpoint_from_source(checkpoint)):
        folder = tmp_path / part.name
        folder.mkdir()
        for path in chain.from_iterable(write_variants(part.networks(), folder)):
            assert path.read_bytes() == (bundle / part.name / path.name).read_bytes(), path
