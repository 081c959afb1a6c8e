"""An OpenVINO model with its convolutions before the upsampling that precedes them: see
`upsampling`.

Phases for an upsampling by 2, with one convolution for all and a border that is cut off afterwards:
in bfloat16 it takes 0.58 of the time of upsampling first. Products for an upsampling to the size of
a skip connection: 0.30 to 0.42. Tried and rejected, with openvino 2026.4: four convolutions of
phases (0.75) and a transposed convolution of 4×4 (0.92; in float32 it is as fast).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sdrt_engines.openvino_library import openvino
from sdrt_engines.openvino_products import by_products
from sdrt_engines.tensor import Array
from sdrt_engines.upsampling import PHASES, added_taps

_NEAREST = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}
_DOUBLED = [1, 1, 2, 2]
_OF_SIZES = ("Concat", "Convert", "Gather", "Slice", "Unsqueeze")  # from shapes to a size
_BORDERED = {"dilations": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1]}
_SAME_SIZE = {"strides": [1, 1]} | _BORDERED
_HALF_SIZE = {"strides": [2, 2]} | _BORDERED  # rounded up


def convolve_first(model: Any) -> None:
    """Changes a model, before it is compiled."""
    for node in model.get_ordered_ops():
        if _is_convolution(node, _SAME_SIZE) and _is_upsampled(node.input_value(0)):
            _replace(node, node.input_value(0).get_node())


def _is_convolution(node: Any, attributes: Mapping[str, Sequence[int]]) -> bool:
    """True for a 3×3 convolution with these attributes."""
    if node.get_type_name() != "Convolution":
        return False
    kernel, found = node.input_value(1).get_partial_shape(), node.get_attributes()
    if kernel.is_dynamic or list(kernel.to_shape()[2:]) != [3, 3]:
        return False
    return all(list(found[name]) == value for name, value in attributes.items())


def _is_upsampled(output: Any) -> bool:
    node = output.get_node()
    if node.get_type_name() != "Interpolate" or len(output.get_target_inputs()) != 1:
        return False
    found = node.get_attributes()
    return all(found.get(name) == value for name, value in _NEAREST.items())


def _replace(convolution: Any, upsampling: Any) -> None:
    kernel, first = _constant(convolution.input_value(1)), _way_of(upsampling)
    if kernel is None or first is None:
        return
    replaced, bias = _with_bias(convolution)
    result = first(upsampling.input_value(0), upsampling.input_value(1), kernel, bias)
    result.set_friendly_name(replaced.get_friendly_name())
    replaced.output(0).replace(result.output(0))


def _way_of(upsampling: Any) -> Callable[[Any, Any, Array, Any], Any] | None:
    """The function that makes a convolution after this upsampling run first; None if it cannot."""
    if upsampling.get_attributes()["shape_calculation_mode"] == "sizes":
        return by_products if _is_of_halved(upsampling.input_value(1).get_node()) else None
    scales = _constant(upsampling.input_value(1))
    return _by_phases if scales is not None and scales.tolist() == _DOUBLED else None


def _is_of_halved(size: Any) -> bool:
    """True for the shape of a skip connection."""
    sources = [size.input_value(place) for place in range(size.get_input_size())]
    if size.get_type_name() == "ShapeOf":
        return _is_halved(sources[0])
    in_sizes = size.get_type_name() in _OF_SIZES
    return in_sizes and any(_is_of_halved(source.get_node()) for source in sources)


def _is_halved(tensor: Any) -> bool:
    """True if a convolution halves the tensor, or it is the sum of one and a ControlNet's."""
    node, tensors = tensor.get_node(), [tensor]
    if node.get_type_name() == "Add":
        tensors += [node.input_value(place) for place in (0, 1)]
    users = (user.get_node() for each in tensors for user in each.get_target_inputs())
    return any(_is_convolution(user, _HALF_SIZE) for user in users)


def _by_phases(source: Any, scales: Any, kernel: Array, bias: Any) -> Any:
    """The convolution of `source`, upsampled by 2."""
    ops = openvino().opset15
    weight = ops.constant(_kernel_of_phases(kernel), shared_memory=True)  # not copied
    result = ops.convolution(source, weight, [1, 1], [1, 1], [1, 1], [1, 1])
    if bias is not None:
        result = ops.add(result, ops.reshape(ops.concat([bias] * 4, 0), [1, -1, 1, 1], False))
    result = ops.depth_to_space(result, "blocks_first", 2)
    return ops.slice(result, [1, 1], [-1, -1], [1, 1], [2, 3])


def _with_bias(convolution: Any) -> tuple[Any, Any]:
    """The node that adds its bias, and the bias (out,): the convolution itself and None if it has
    none."""
    for target in convolution.output(0).get_target_inputs():
        if (bias := _bias_of(target.get_node(), convolution)) is not None:
            return target.get_node(), bias
    return convolution, None


def _constant(output: Any) -> Array | None:
    """The values of a constant, also behind a cast or in parts; None for anything else."""
    node = output.get_node()
    inputs = [node.input_value(place) for place in range(node.get_input_size())]
    match node.get_type_name():
        case "Constant":
            return np.asarray(node.data)
        case "Convert":
            return _constant(inputs[0])
        case "Concat":
            parts = [_constant(each) for each in inputs]
            known = [part for part in parts if part is not None]
            return np.concatenate(known) if len(known) == len(parts) else None
    return None


def _kernel_of_phases(kernel: Array) -> Array:
    """The kernels of all phases, (4 out, in, 2, 2). Odd ones come first, as the place in which a
    pixel of an odd row is computed is half a step before that of an even one."""
    num_outputs, num_inputs = kernel.shape[:2]
    rows = kernel.reshape(num_outputs, num_inputs, 9).astype(np.float32)
    phases = np.empty((4, num_outputs, num_inputs, 4), np.float32)
    for place, phase in enumerate(reversed(PHASES)):
        np.matmul(rows, added_taps(phase), out=phases[place])
    return phases.reshape(-1, num_inputs, 2, 2)


def _bias_of(addition: Any, convolution: Any) -> Any:
    """The values that `addition` adds to each channel; None if it is not a bias."""
    if addition.get_type_name() != "Add":
        return None
    num_channels = convolution.input_value(1).get_shape()[0]
    for place in (0, 1):
        other = addition.input_value(place).get_node()
        if other.get_type_name() == "Reshape":
            values = _constant(other.input_value(0))
            if values is not None and values.shape == (num_channels,):
                return other.input_value(0)
    return None
