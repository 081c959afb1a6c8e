"""A network to an ONNX file: traced without weights, which are copied one by one.

Why torch's TorchScript exporter and not the newer one (`dynamo=True`): measured with torch 2.13 on
a two-level UNet of 14,000 weights with batch, height, width and sequence open, the newer one takes
43 s of processor time, most of it symbolic arithmetic about sizes, and this one 2.5 s; both graphs
give the same numbers. `PlainAttention` and `fold` remove most of the arithmetic on sizes that it
leaves. Its patterns (InstanceNormalization for group norms, MatMul and Softmax for attention) are
those that engines' optimisers look for.

Why without weights: no copy in memory and no limit of 2 GB. The network may have none at all (see
`networks.empty_model`), so a model of any size is exported in the memory of a trace and one tensor.
And initializers have the names of the weights in the checkpoint, followed by the operator if one
was folded: `….to_q.weight.Transpose`.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import torch
from onnx import (
    GraphProto,
    ModelProto,
    TensorProto,
    ValueInfoProto,
    helper,
)

from sdrt_engines import Array, Signature, TensorSpec
from sdrt_export.external_data import DATA_NAME, PAGE, initializer
from sdrt_export.networks.network import Network, TraceSize
from sdrt_export.options import WeightType
from sdrt_export.tracing.editing import remove_inputs, remove_no_ops
from sdrt_export.tracing.folding import Source, View, fold
from sdrt_export.tracing.half_weights import fits_half

OPSET = 17  # the first with LayerNormalization
TRACED = TraceSize(batch=2, height=16, width=24, sequence=77)


def write_onnx(
    network: Network,
    folder: Path,
    stored: WeightType = "fp32",
    weights: Mapping[str, torch.Tensor] | None = None,
) -> list[Path]:
    """Writes `model.onnx` and, for the large tensors, `model.onnx_data`; the paths, in this order.

    With "fp16" the data file holds float16, and each tensor is cast to float32 before its use, so
    computation stays float32; engines fold the casts when they load. A tensor that float16 would
    change stays float32 (see `Rounded`). `weights` are by default those of the network; any
    floating-point type is accepted, and one at a time is in memory.
    """
    (files,) = write_variants([network], folder, stored, weights)
    return files


def write_variants(
    networks: Sequence[Network],
    folder: Path,
    stored: WeightType = "fp32",
    weights: Mapping[str, torch.Tensor] | None = None,
) -> list[list[Path]]:
    """Writes variants of one model, each with more inputs than the one before; the files of each.

    The last is traced. The others are its graph without their missing inputs, so all of them share
    one data file.
    """
    traced = trace(networks[-1])
    if weights is None:
        weights = networks[-1].model.state_dict()
    known = {spec.name for spec in networks[-1].signature.inputs}
    data_path = folder / DATA_NAME
    with data_path.open("wb") as data:
        store = TensorStore(weights, data, stored)
        for network in networks:
            lacking = known - {spec.name for spec in network.signature.inputs}
            model = remove_inputs(traced, lacking)
            shapes = {name: weight.shape for name, weight in network.state_dict().items()}
            sources = fold(model, shapes)
            describe(model.graph, network.signature)
            store.attach(model.graph, sources)
            (folder / network.file_name).write_bytes(model.SerializeToString())
        has_data = data.tell() > 0
    if not has_data:
        data_path.unlink()
    shared = [data_path] if has_data else []
    return [[folder / network.file_name, *shared] for network in networks]


def trace(network: Network) -> ModelProto:
    """The network's graph. Its weights are inputs, under their names in `network`."""
    network.simplify()
    signature = network.signature
    open_axes = {
        spec.name: [axis for axis, dim in enumerate(spec.shape) if isinstance(dim, str)]
        for spec in signature.inputs
    }
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The tracer warns about every size that it treats as a constant; errors would show when the
        # graph is compared with torch at other sizes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            network.inputs_at(TRACED, torch.Generator().manual_seed(0)),
            file,
            dynamo=False,
            export_params=False,
            do_constant_folding=False,
            opset_version=OPSET,
            input_names=[spec.name for spec in signature.inputs],
            output_names=[spec.name for spec in signature.outputs],
            dynamic_axes=open_axes,
            keep_initializers_as_inputs=True,  # else equal weights become one
        )
    model = onnx.load_model_from_string(file.getvalue())
    remove_no_ops(model.graph)
    return model


def describe(graph: GraphProto, signature: Signature) -> None:
    """Sets the shapes of inputs and outputs from the signature; traced sizes have no good names."""
    del graph.input[:], graph.output[:]
    graph.input.extend(_value_from_spec(spec) for spec in signature.inputs)
    graph.output.extend(_value_from_spec(spec) for spec in signature.outputs)


def _value_from_spec(spec: TensorSpec) -> ValueInfoProto:
    element_type = helper.np_dtype_to_tensor_dtype(spec.dtype)
    return helper.make_tensor_value_info(spec.name, element_type, spec.shape)


class TensorStore:
    """Turns tensors into initializers of graphs: large ones in `data`, small ones in the model.

    A name means the same tensor in all graphs, so `data` holds each once.
    """

    def __init__(
        self, weights: Mapping[str, torch.Tensor], data: BinaryIO, stored: WeightType
    ) -> None:
        self.weights, self.data, self.stored = weights, data, stored
        self.initializers: dict[str, TensorProto] = {}  # by the names in graphs

    def attach(self, graph: GraphProto, sources: Mapping[str, Source]) -> None:
        """Adds to the graph the tensors that it needs, with casts if `data` holds float16."""
        casts = []
        for name, source in sources.items():
            if name not in self.initializers:
                self.initializers[name] = self._initializer(name, source)
            initializer = self.initializers[name]
            assert tuple(initializer.dims) == source.shape, name
            graph.initializer.append(initializer)
            if initializer.name != name:
                casts.append(
                    helper.make_node("Cast", [initializer.name], [name], to=TensorProto.FLOAT)
                )
        nodes = [*casts, *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)

    def _initializer(self, name: str, source: Source) -> TensorProto:
        if not isinstance(source, View):
            return initializer(name, _array_of(source), self.data)
        weight = source.of(self.weights)
        if self.stored == "fp16" and 4 * weight.numel() >= PAGE and fits_half(weight):
            return initializer(f"{name}.fp16", _array_of(weight.half()), self.data)
        return initializer(name, _array_of(weight.float()), self.data)


def _array_of(tensor: torch.Tensor) -> Array:
    return np.asarray(tensor.detach().contiguous().numpy())
