"""Products with int8 weights in a graph, in standard ONNX operators that runtimes fuse.

Where the exporter wrote MatMul(x, Transpose(W)) there stand DynamicQuantizeLinear(x), MatMulInteger, Cast, and one Mul
by the scale of x times the scales of the columns. ONNX Runtime makes one kernel of these (MatMulIntegerToFloat). An x
with several such products is rounded once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from core.errors import ExportFailed
from core.export.weights import Whole


def multiply_whole(proto: ModelProto, whole: Mapping[str, Whole], unpacked: Collection[str] = ()) -> None:
    """Put integer products in place of those with the weights called so (out, in).

    Args:
        whole: weights that have no initializer yet.
        unpacked: weights of which the graph makes `NAME.int8` (in, out) and `NAME.scale` (out,) already.

    Raises:
        ExportFailed: a weight is used in another way than MatMul(x, Transpose(W)).
    """
    weights = {*whole, *unpacked}
    turned = {node.output[0]: node.input[0] for node in proto.graph.node if _turns(node, weights)}
    rounded: set[str] = set()
    nodes: list[NodeProto] = []
    for node in proto.graph.node:
        if node.output[0] in turned:
            continue
        if node.op_type == "MatMul" and node.input[1] in turned:
            nodes += _product(node, turned[node.input[1]], rounded)
        elif wrong := [name for name in node.input if name in turned or name in weights]:
            raise ExportFailed(f"{turned.get(wrong[0], wrong[0])} is used by a {node.op_type}: not an int8 product")
        else:
            nodes.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    for name, weight in whole.items():
        proto.graph.initializer.extend(
            [
                numpy_helper.from_array(np.ascontiguousarray(weight.numbers.T), f"{name}.int8"),
                numpy_helper.from_array(weight.scale[:, 0], f"{name}.scale"),
            ]
        )


def _turns(node: NodeProto, weights: Collection[str]) -> bool:
    return node.op_type == "Transpose" and node.input[0] in weights


def _product(node: NodeProto, name: str, rounded: set[str]) -> list[NodeProto]:
    x, y = node.input[0], node.output[0]
    parts = [f"{x}.int8", f"{x}.step", f"{x}.zero"]
    made = [] if x in rounded else [helper.make_node("DynamicQuantizeLinear", [x], parts)]
    rounded.add(x)
    return [
        *made,
        helper.make_node("Cast", [f"{name}.scale"], [f"{y}.rows"], to=TensorProto.FLOAT),
        helper.make_node("MatMulInteger", [parts[0], f"{name}.int8", parts[2]], [f"{y}.sum"]),
        helper.make_node("Cast", [f"{y}.sum"], [f"{y}.float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [parts[1], f"{y}.rows"], [f"{y}.factor"]),
        helper.make_node("Mul", [f"{y}.float", f"{y}.factor"], [y]),
    ]
