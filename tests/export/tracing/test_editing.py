"""Small graphs, before and after nodes are removed."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from sdrt_export.tracing.editing import remove_inputs, remove_no_ops

pytestmark = pytest.mark.export


def model_of(nodes: list[NodeProto], inputs: list[str], outputs: list[str]) -> ModelProto:
    taken, given = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in names]
        for names in (inputs, outputs)
    )
    return helper.make_model(helper.make_graph(nodes, "graph", taken, given))


def constant(name: str, value: float | int | list[float]) -> NodeProto:
    array = np.array(value, np.int64 if isinstance(value, int) else np.float32)
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))


def text(model: ModelProto) -> list[str]:
    """Each node as `output = operator(inputs)`, without constants."""
    return [
        f"{node.output[0]} = {node.op_type}({', '.join(node.input)})"
        for node in model.graph.node
        if node.op_type != "Constant"
    ]


def test_an_input_goes_with_its_sum() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["skip"]),
        helper.make_node("Add", ["skip", "residual"], ["sum"]),
        helper.make_node("Mul", ["sum", "skip"], ["y"]),
    ]
    model = model_of(nodes, ["x", "residual"], ["y"])
    edited = remove_inputs(model, ["residual"])
    assert text(edited) == ["skip = Relu(x)", "y = Mul(skip, skip)"]
    assert [value.name for value in edited.graph.input] == ["x"]
    onnx.checker.check_model(edited, full_check=True)
    assert len(model.graph.node) == 3, "the model itself stays"


def test_no_inputs_leave_the_model_as_it_is() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], ["x"], ["y"])
    assert remove_inputs(model, []) == model


def test_an_input_with_another_use_is_not_taken_out() -> None:
    nodes = [
        helper.make_node("Add", ["x", "residual"], ["sum"]),
        helper.make_node("Mul", ["sum", "residual"], ["y"]),
    ]
    with pytest.raises(AssertionError, match="one Add for each input"):
        remove_inputs(model_of(nodes, ["x", "residual"], ["y"]), ["residual"])


def test_scales_of_one_and_identities_are_taken_out() -> None:
    nodes = [
        constant("one", 1.0),
        constant("two", 2.0),
        constant("whole", 1),
        constant("row", [1.0]),
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Mul", ["a", "one"], ["b"]),
        helper.make_node("Identity", ["b"], ["c"]),
        helper.make_node("Div", ["c", "one"], ["d"]),
        helper.make_node("Div", ["d", "two"], ["e"]),
        helper.make_node("Mul", ["e", "row"], ["f"]),  # which may add an axis
        helper.make_node("Div", ["one", "f"], ["g"]),
        helper.make_node("Mul", ["g", "whole"], ["y"]),
    ]
    model = model_of(nodes, ["x"], ["y"])
    remove_no_ops(model.graph)
    assert text(model) == [
        "a = Relu(x)",
        "e = Div(a, two)",
        "f = Mul(e, row)",
        "g = Div(one, f)",
        "y = Mul(g, whole)",
    ]


def test_an_output_keeps_its_name() -> None:
    nodes = [
        constant("one", 1.0),
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Mul", ["a", "one"], ["y"]),
        helper.make_node("Exp", ["a"], ["z"]),
    ]
    model = model_of(nodes, ["x"], ["y", "z"])
    remove_no_ops(model.graph)
    assert text(model) == ["y = Relu(x)", "z = Exp(y)"]
