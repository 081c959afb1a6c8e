"""The ONNX files themselves: names, places, and patterns that engines would not optimise."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, numpy_helper

from checkpoints import tiny_pipeline
from sdrt_export.errors import ExportError
from sdrt_export.external_data import DATA_NAME, PAGE
from sdrt_export.networks.network import Network
from sdrt_export.networks.text_encoder import TextEncoder
from sdrt_export.networks.unet import UNet
from sdrt_export.networks.vae import VaeEncoder
from sdrt_export.tracing.half_weights import Rounded
from sdrt_export.tracing.onnx_from_network import write_onnx

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def unet() -> Network:
    return UNet(tiny_pipeline("v_prediction").unet)


@pytest.fixture(scope="module")
def folder(unet: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unet")
    write_onnx(unet, folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> ModelProto:
    return onnx.load(folder / "model.onnx")


def test_every_weight_is_there_under_its_name_in_the_checkpoint(
    unet: Network, model: ModelProto
) -> None:
    weights = unet.model.state_dict()
    stored = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name.partition(".Transpose")[0].partition(".Unsqueeze")[0] in weights
    }
    assert len(stored) == len(weights)
    for name, array in stored.items():
        weight = weights[re.sub(r"\.(Transpose|Unsqueeze)$", "", name)].numpy()
        view = weight.T if name.endswith(".Transpose") else weight.reshape(array.shape)
        np.testing.assert_array_equal(array, view)


def test_large_tensors_lie_in_the_data_file_from_a_page_on(folder: Path) -> None:
    tensors = onnx.load(folder / "model.onnx", load_external_data=False).graph.initializer
    large = [tensor for tensor in tensors if tensor.data_location == TensorProto.EXTERNAL]
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in large]
    ends = [int(place["offset"]) + int(place["length"]) for place in places]

    assert {place["location"] for place in places} == {DATA_NAME}
    assert all(int(place["offset"]) % PAGE == 0 for place in places)
    assert all(int(place["length"]) >= PAGE for place in places)
    assert all(len(tensor.raw_data) < PAGE for tensor in tensors)
    assert max(ends) == (folder / DATA_NAME).stat().st_size


def test_a_network_of_small_tensors_is_one_file(tmp_path: Path) -> None:
    files = write_onnx(VaeEncoder(tiny_pipeline("classic").vae), tmp_path)
    assert files == [tmp_path / "model.onnx"]
    assert list(tmp_path.iterdir()) == files


def test_the_graph_is_plain(model: ModelProto) -> None:
    """Standard operators only, weights not transposed at run time, no scale from shapes."""
    weights = {tensor.name for tensor in model.graph.initializer}
    operators = {node.op_type for node in model.graph.node}

    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert {node.domain for node in model.graph.node} == {""}
    assert {"MatMul", "Softmax", "LayerNormalization"} <= operators
    assert not {"Constant", "Gather", "Sqrt", "If", "Loop"} & operators
    assert not any(
        node.op_type == "Transpose" and node.input[0] in weights for node in model.graph.node
    )


def test_halves_are_cast_before_their_use(tmp_path: Path) -> None:
    network = TextEncoder(tiny_pipeline("v_prediction").text_encoder)
    weights = Rounded(network.name, network.model.state_dict())
    write_onnx(network, tmp_path, "fp16", weights)
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    halves = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16}
    casts = [node for node in model.graph.node if set(node.input) & halves]
    large = {name for name, weight in network.named_parameters() if weight.nbytes >= PAGE}

    assert len(halves) == len(large)
    assert {node.input[0] for node in casts} == halves
    assert {node.op_type for node in casts} == {"Cast"}
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)


def test_a_weight_that_halves_do_not_hold_is_reported_by_name(tmp_path: Path) -> None:
    network = UNet(tiny_pipeline("classic").unet)
    with torch.no_grad():
        network.model.conv_in.weight[0, 0, 0, 0] = 1e6
    weights = Rounded(network.name, network.model.state_dict())
    with pytest.raises(ExportError, match=r"unet: conv_in\.weight reaches 1e\+06, beyond float16"):
        write_onnx(network, tmp_path, "fp16", weights)


def test_a_weight_that_was_not_rounded_stays_whole(tmp_path: Path) -> None:
    write_onnx(TextEncoder(tiny_pipeline("classic").text_encoder), tmp_path, "fp16")
    tensors = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph.initializer
    assert not any(tensor.data_type == TensorProto.FLOAT16 for tensor in tensors)
