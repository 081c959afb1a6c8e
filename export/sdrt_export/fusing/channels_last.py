"""Turns a graph of convolutions from (B, C, h, w) to (B, h, w, C), the layout of tensor cores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from onnx import NodeProto, helper

from sdrt_export.fusing.editor import FusionEditor, attributes_of, contrib

TO_LAST: Final = [0, 2, 3, 1]  # axes of channels-last tensors, as channels-first axes
TO_FIRST: Final = [0, 3, 1, 2]

_ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Sigmoid", "Cast", "Identity", "Tanh", "Relu"}
)


def to_channels_last(graph: FusionEditor) -> None:
    """Makes all convolutions and group norms, and the nodes between them, work on channels-last
    tensors.

    Transposes stay only at the network's inputs and outputs, and around operators unknown to this
    pass.
    """
    pass_ = _ChannelsLast(graph)
    graph.nodes = pass_.run()
    graph.commit()


class _ChannelsLast:
    """The pass over the nodes, in their order."""

    def __init__(self, graph: FusionEditor) -> None:
        self.graph = graph
        self.last: dict[str, str] = {}  # tensor → its channels-last version
        self.first = {value.name for value in graph.model.graph.input} | graph.weights.keys()
        self.nodes: list[NodeProto] = []
        self.rules: dict[str, Callable[[NodeProto], bool]] = {
            "Conv": self._conv,
            "GroupNorm": self._group_norm,
            "Concat": self._concat,
            "Resize": self._resize,
            "Pad": self._pad,
            "Shape": self._shape,
            "Transpose": self._transpose,
            **dict.fromkeys(_ELEMENTWISE, self._elementwise),
        }

    def run(self) -> list[NodeProto]:
        for node in self.graph.nodes:
            rule = self.rules.get(node.op_type)
            if rule is None or not rule(node):
                for name in node.input:
                    self._require_first(name)
                self.nodes.append(node)
                self.first.update(node.output)
        for name in self.graph.outputs:
            self._require_first(name)
        return self.nodes

    def _require_first(self, name: str) -> None:
        """Creates the channels-first tensor, if only the other exists."""
        if name in self.last and name not in self.first:
            self.nodes.append(
                helper.make_node("Transpose", [self.last[name]], [name], perm=TO_FIRST)
            )
            self.first.add(name)

    def _as_last(self, name: str) -> str:
        if name not in self.last:
            self.last[name] = f"{name}.nhwc"
            self.nodes.append(
                helper.make_node("Transpose", [name], [self.last[name]], perm=TO_LAST)
            )
        return self.last[name]

    def _output(self, node: NodeProto) -> str:
        self.last[node.output[0]] = f"{node.output[0]}.nhwc"
        return self.last[node.output[0]]

    def _rank(self, name: str) -> int:
        return len(self.graph.shapes.get(name, ()))

    def _conv(self, node: NodeProto) -> bool:
        if node.input[1] not in self.graph.weights or self._rank(node.input[1]) != 4:
            return False
        weight = self.graph.add_view(node.input[1], "nhwc", lambda array: array.transpose(TO_LAST))
        inputs = [self._as_last(node.input[0]), weight, *node.input[2:]]
        self.nodes.append(contrib("NhwcConv", inputs, [self._output(node)], **attributes_of(node)))
        return True

    def _group_norm(self, node: NodeProto) -> bool:
        attributes = attributes_of(node) | {"channels_last": 1}
        inputs = [self._as_last(node.input[0]), *node.input[1:]]
        self.nodes.append(contrib("GroupNorm", inputs, [self._output(node)], **attributes))
        return True

    def _elementwise(self, node: NodeProto) -> bool:
        wide = [name for name in node.input if self._rank(name) == 4]
        scalars = [name for name in node.input if self._rank(name) == 0]
        if not any(name in self.last for name in wide) or len(wide + scalars) != len(node.input):
            return False
        if any(name in self.graph.weights for name in wide):
            return False
        inputs = [self._as_last(name) if name in wide else name for name in node.input]
        self._copy(node, inputs)
        return True

    def _concat(self, node: NodeProto) -> bool:
        if attributes_of(node)["axis"] != 1 or not any(name in self.last for name in node.input):
            return False
        self._copy(node, [self._as_last(name) for name in node.input]).attribute[0].i = 3
        return True

    def _resize(self, node: NodeProto) -> bool:
        if node.input[0] not in self.last or any(node.input[1:2]):
            return False
        turned = []
        for name in node.input[2:]:
            if name:
                place = self.graph.add_ints(TO_LAST)
                turned.append(f"{node.output[0]}.sizes")
                self.nodes.append(helper.make_node("Gather", [name, place], turned[-1:]))
            else:
                turned.append("")
        self._copy(node, [self._as_last(node.input[0]), "", *turned])
        return True

    def _pad(self, node: NodeProto) -> bool:
        pads = self.graph.ints(node.input[1])
        if node.input[0] not in self.last or pads is None or len(pads) != 8:
            return False
        turned = [pads[4 * end + axis] for end in (0, 1) for axis in TO_LAST]
        inputs = [self._as_last(node.input[0]), self.graph.add_ints(turned), *node.input[2:]]
        self._copy(node, inputs)
        return True

    def _shape(self, node: NodeProto) -> bool:
        """One size, or all of them in the order of the channels-first tensor."""
        if node.input[0] not in self.last or node.input[0] in self.first:
            return False
        source, bounds = self.last[node.input[0]], attributes_of(node)
        if not bounds:
            sizes = f"{node.output[0]}.nhwc"
            self.nodes.append(helper.make_node("Shape", [source], [sizes]))
            place = self.graph.add_ints(TO_FIRST)
            self.nodes.append(helper.make_node("Gather", [sizes, place], list(node.output)))
        elif bounds.get("end", 9) - bounds.get("start", 0) == 1:
            axis = TO_FIRST[bounds.get("start", 0)]
            self.nodes.append(
                helper.make_node("Shape", [source], list(node.output), start=axis, end=axis + 1)
            )
        else:
            return False
        self.first.update(node.output)
        return True

    def _transpose(self, node: NodeProto) -> bool:
        perm = attributes_of(node).get("perm")
        (source,), (target,) = node.input, node.output
        if perm == TO_LAST and source in self.last and target not in self.graph.outputs:
            self._rename(target, self.last[source])
            return True
        if perm == TO_FIRST and self._rank(source) == 4 and source in self.first:
            self.last[target] = source
            return True
        return False

    def _rename(self, old: str, new: str) -> None:
        """Redirects all readers of `old`, a channels-first name, to `new`."""
        for node in self.graph.nodes:
            for place, name in enumerate(node.input):
                if name == old:
                    node.input[place] = new
        self.graph.shapes[new] = self.graph.shapes.get(old, ())
        self.first.add(new)

    def _copy(self, node: NodeProto, inputs: list[str]) -> NodeProto:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = inputs
        copy.output[:] = [self._output(node)]
        self.nodes.append(copy)
        return copy
