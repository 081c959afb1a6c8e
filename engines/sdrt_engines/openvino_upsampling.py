"""An OpenVINO model with its convolutions before the upsampling that precedes them: see
`upsampling`.

One convolution computes all phases, with a border that is cut off afterwards: in bfloat16 it takes
0.58 of the time of upsampling first. Tried and rejected, with openvino 2026.4: four convolutions
(0.75) and a transposed convolution of 4×4 (0.92; in float32 it is as fast).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sdrt_engines.openvino_library import openvino
from sdrt_engines.tensor import Array
from sdrt_engines.upsampling import PHASES, added_taps

_NEAREST = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
    "shape_calculation_mode": "scales",
}
_DOUBLED = [1, 1, 2, 2]
_SAME_SIZE = {"strides": [1, 1], "dilations": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1]}


def convolve_first(model: Any) -> None:
    """Changes a model, before it is compiled."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Convolution" and _follows_upsampling(node):
            kernel = _constant(node.input_value(1))
            if kernel is not None and kernel.shape[2:] == (3, 3):
                _replace(node, _kernel_of_phases(kernel))


def _follows_upsampling(convolution: Any) -> bool:
    upsampled, attributes = convolution.input_value(0), convolution.get_attributes()
    return (
        _is_upsampling(upsampled.get_node())
        and len(upsampled.get_target_inputs()) == 1
        and all(list(attributes[name]) == value for name, value in _SAME_SIZE.items())
    )


def _is_upsampling(node: Any) -> bool:
    if node.get_type_name() != "Interpolate":
        return False
    attributes, scales = node.get_attributes(), _constant(node.input_value(1))
    return (
        all(attributes.get(name) == value for name, value in _NEAREST.items())
        and scales is not None
        and scales.tolist() == _DOUBLED
    )


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


def _replace(convolution: Any, kernel: Array) -> None:
    ops = openvino().opset15
    source = convolution.input_value(0).get_node().input_value(0)
    replaced, bias = convolution, None
    for target in convolution.output(0).get_target_inputs():
        if found := _bias_of(target.get_node(), convolution):
            replaced, bias = target.get_node(), found
    weight = ops.constant(kernel, shared_memory=True)  # not copied
    result = ops.convolution(source, weight, [1, 1], [1, 1], [1, 1], [1, 1])
    if bias is not None:
        result = ops.add(result, ops.reshape(ops.concat([bias] * 4, 0), [1, -1, 1, 1], False))
    result = ops.depth_to_space(result, "blocks_first", 2)
    result = ops.slice(result, [1, 1], [-1, -1], [1, 1], [2, 3])
    result.set_friendly_name(replaced.get_friendly_name())
    replaced.output(0).replace(result.output(0))


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
