"""Equal parts of a tensor by Split, where the exporter writes a sequence of tensors and picks from it.

Sequences are not what runtimes fuse or other formats know, and the width of a part stands in the graph as a number;
Split with `num_outputs` asks for none, so that a graph whose units are cut (`core.export.narrow_graph`) stays right.
"""

from __future__ import annotations

from onnx import ModelProto, NodeProto, helper, numpy_helper

from core.errors import ExportFailed


def split_equally(proto: ModelProto) -> None:
    """Replace SplitToSequence and the SequenceAt that read it.

    Raises ExportFailed where not every part is picked, by a constant: then nobody knows how many there are.
    """
    nodes = proto.graph.node
    numbers = {node.output[0]: numpy_helper.to_array(node.attribute[0].t) for node in nodes if _constant(node)}
    picks: dict[str, dict[int, str]] = {
        node.output[0]: {} for node in nodes if node.op_type == "SplitToSequence"
    }  # the sequence -> which part of it -> the part's name
    for node in nodes:
        if node.op_type == "SequenceAt" and node.input[0] in picks and node.input[1] in numbers:
            picks[node.input[0]][int(numbers[node.input[1]])] = node.output[0]
    kept: list[NodeProto] = []
    for node in nodes:
        if node.op_type == "SplitToSequence":
            parts = picks[node.output[0]]
            if sorted(parts) != list(range(max(2, len(parts)))):
                raise ExportFailed(f"of {node.input[0]} in parts only {sorted(parts)} are read: how many are there?")
            (axis,) = [one.i for one in node.attribute if one.name == "axis"]
            outputs = [parts[place] for place in sorted(parts)]
            kept.append(helper.make_node("Split", [node.input[0]], outputs, axis=axis, num_outputs=len(outputs)))
        elif not (node.op_type == "SequenceAt" and node.input[0] in picks):
            kept.append(node)
    del nodes[:]
    nodes.extend(kept)


def _constant(node: NodeProto) -> bool:
    return node.op_type == "Constant" and node.attribute[0].name == "value"
