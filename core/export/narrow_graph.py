"""A graph with fewer heads and neurons, made of the graph that has all: to be timed, not to be believed.

Weights are sliced where they stand and the word embedding is cut to the tokens that a timing reads, so that a variant
is made in a moment, without a model, and weighs little. Its operators are those that a student of these widths has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, numpy_helper

from core import codes
from core.errors import ExportFailed
from core.export.int8_graph import multiply_whole
from core.export.weights import Whole
from core.family import Block, Family

Array = npt.NDArray[Any]


def narrowed(proto: ModelProto, blocks: Mapping[Block, int], family: Family, tokens: int, *, int8: bool) -> ModelProto:
    """A copy of a dense model's graph in which each of `blocks` has so many columns left.

    Args:
        tokens: rows of the word embedding that stay.
        int8: every encoder linear multiplies in int8, at a scale a row.

    Raises:
        ExportFailed: the graph is not one that `core.export.onnx` wrote of a dense model of `family`.
    """
    made = ModelProto()
    made.CopyFrom(proto)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    weights[f"{family.embedding}.weight"] = weights[f"{family.embedding}.weight"][:tokens]
    for block, columns in blocks.items():
        if not columns:
            _skip(made, block)
            continue
        weights[f"{block.reader}.weight"] = weights[f"{block.reader}.weight"][:, :columns]
        for part in [f"{writer}.{part}" for writer in block.writers for part in ("weight", "bias")]:
            if part in weights:  # not every family has biases
                stacked = np.split(weights[part], block.stacked)
                weights[part] = np.concatenate([one[:columns] for one in stacked])
    _prune(made, weights)
    linears = [name for name in weights if any(fnmatchcase(name, f"{one}.weight") for one in family.linears)]
    whole = {name: _whole(weights.pop(name)) for name in linears} if int8 else {}
    del made.graph.initializer[:]
    made.graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(w), n) for n, w in weights.items())
    multiply_whole(made, whole)
    return made


MOST = codes.INT8 // 2


def _whole(weight: Array) -> Whole:
    scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-8) / MOST
    return Whole(np.round(weight / scale).astype(np.int8), scale.astype(np.float16))


def _skip(proto: ModelProto, block: Block) -> None:
    """What the block is added to gets the reader's bias instead, or nothing; what it computed is asked for no more."""
    nodes = proto.graph.node
    turned = _user(nodes, f"{block.reader}.weight", "Transpose")
    said = _user(nodes, turned.output[0], "MatMul")
    bias = f"{block.reader}.bias"
    biased = any(bias in node.input for node in nodes)
    if biased:
        said = _user(nodes, said.output[0], "Add")
    added = _user(nodes, said.output[0], "Add")
    beside = [name for name in added.input if name != said.output[0]]
    added.op_type = "Add" if biased else "Identity"
    del added.input[:]
    added.input.extend([*beside, bias] if biased else beside)


def _user(nodes: Iterable[NodeProto], name: str, operator: str) -> NodeProto:
    """The only node that reads `name`."""
    found = [node for node in nodes if name in node.input]
    if len(found) != 1 or found[0].op_type != operator:
        raise ExportFailed(f"{name} is read by {[node.op_type for node in found]}, not by one {operator}")
    return found[0]


def _prune(proto: ModelProto, weights: dict[str, Array]) -> None:
    """Take out nodes and weights that no output needs."""
    needed = {output.name for output in proto.graph.output}
    kept: list[NodeProto] = []
    for node in reversed(proto.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(kept))
    for name in weights.keys() - needed:
        del weights[name]
