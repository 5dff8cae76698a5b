"""One `model.onnx` for stock ONNX Runtime: every weight inside, masked ones packed.

Teacher and student go through this one function, so that bytes and milliseconds compare like with like. The graph is
taken with eager attention: it makes 240 nodes where sdpa makes 310 (a NaN guard after every softmax).
The exporter's own optimiser stays off: it folds the transpose of some weights into unnamed constants, costs a second,
and ONNX Runtime does the same at load. So an initializer is called as its parameter is and has its layout.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import numpy_helper
from onnx_ir.passes import common as passes
from torch import nn

from core.errors import ExportFailed
from core.export.int8_graph import multiply_whole
from core.export.split_graph import split_equally
from core.export.unpack_graph import OPSET, Unpacking
from core.export.weights import Stored, collect, tied_in
from core.forward import named
from core.grid import Values
from core.model import inputs_of
from core.surgery import plain_inputs

MAX_BYTES = 2**31 - 1  # of one protobuf message; a larger model would need a second file
EXAMPLE_TOKENS = 16  # of the batch that a graph is traced with
_QUIET = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


class _Answers(nn.Module):
    """The model as a function of tensors only. Its parameter names gain the prefix `model.`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return tuple(named(self.model(input_ids=input_ids, attention_mask=attention_mask, **types)).values())


def write(
    model: nn.Module,
    masks: Mapping[str, torch.Tensor],
    path: Path,
    *,
    values: Mapping[str, Values] | None = None,
    example_tokens: int = EXAMPLE_TOKENS,
) -> None:
    """Write `model` (fp32, in eval mode) with dynamic batch and sequence; inputs int64, outputs those of its task.

    Args:
        masks: parameter name -> boolean tensor of its shape; False entries are zero in the model. A masked tensor is
            packed where that is smaller than dense.
        values: parameter name -> what its entries may be; one on a grid is stored in codes.
        example_tokens: length of the batch that the graph is traced with.

    Raises:
        ExportFailed: training mode, a mask that does not fit, a weight that the graph lost, or more than 2 GB.
    """
    if model.training:
        raise ExportFailed("the model is in training mode; call eval() before exporting")
    stored = collect(model, masks, values)
    if stored.size_bytes > MAX_BYTES:
        raise ExportFailed(f"{stored.size_bytes} bytes of weights; one ONNX file holds at most {MAX_BYTES}")
    proto = _graph(model, example_tokens, stored.tied)
    _pack(proto, stored)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def weight_bytes(path: Path, names: Mapping[str, object] | set[str]) -> int:
    """Bytes that the weights called `names` take in an ONNX file, in whatever parts, framing left out."""
    proto = onnx.load(path, load_external_data=False)
    mine = [t for t in proto.graph.initializer if t.name in names or t.name.rpartition(".")[0] in names]
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in mine)


def dense(model: nn.Module) -> onnx.ModelProto:
    """The graph with every weight inside as `model` holds it, of whatever type it is; no input is rounded."""
    return _graph(model, EXAMPLE_TOKENS, tied_in(model))


def traced(model: nn.Module, tokens: int = EXAMPLE_TOKENS) -> torch.export.ExportedProgram:
    """`model` as a program of tensors: its inputs in the order of `inputs_of`, batch and sequence dynamic."""
    names, example = inputs_of(model), _example(model, tokens)
    dynamic = torch.export.Dim.DYNAMIC
    with _eager_attention(model), _quiet(), torch.no_grad():
        # Attention masks take another path while a graph is traced, so padding is honoured at any length.
        return torch.export.export(
            _Answers(model).eval(),
            tuple(example.values()),
            dynamic_shapes=({0: dynamic, 1: dynamic},) * len(names),
            strict=False,
        )


def _example(model: nn.Module, tokens: int) -> dict[str, torch.Tensor]:
    device = next(model.parameters()).device
    example = {name: torch.ones(2, tokens, dtype=torch.int64, device=device) for name in inputs_of(model)}
    example["attention_mask"][1, tokens // 2 :] = 0
    return example


def _graph(model: nn.Module, tokens: int, tied: Mapping[str, str]) -> onnx.ModelProto:
    names = inputs_of(model)
    with plain_inputs(model), _quiet(), torch.no_grad():
        answer = named(model(**_example(model, tokens)))
        program = traced(model, tokens)
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(names),
            output_names=list(answer),
            optimize=False,
            verbose=False,
        )
        if exported is None:
            raise ExportFailed("the exporter returned no graph")
        graph = exported.model
        # Only what leaves every weight under its own name.
        for clean in (
            passes.IdentityEliminationPass(),
            passes.CommonSubexpressionEliminationPass(),
            passes.RemoveUnusedNodesPass(),
            passes.ClearMetadataAndDocStringPass(),  # source paths of the machine that exported
        ):
            clean(graph)
        proto = ir.to_proto(graph)
        split_equally(proto)
        return _named(proto, names, {name: found.dim() for name, found in answer.items()}, tied)


def _named(
    proto: onnx.ModelProto, inputs: tuple[str, ...], outputs: Mapping[str, int], tied: Mapping[str, str]
) -> onnx.ModelProto:
    """Plain names: weights as they are stored, dimensions "batch" and "sequence", nothing inferred kept.

    outputs: name -> dimensions that the tensor has in the module; start and end of an answer have no width of theirs.
    """
    del proto.graph.value_info[:]

    def plain(name: str) -> str:
        name = name.removeprefix("model.")
        return tied.get(name, name)

    weights = {plain(tensor.name): tensor for tensor in proto.graph.initializer}  # a tied one once
    for name, tensor in weights.items():
        tensor.name = name
    kept = list(weights.values())
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = plain(name)
    if (found := tuple(value.name for value in proto.graph.input)) != inputs:
        raise ExportFailed(f"the graph takes {found}, not {inputs}")
    for value in (*proto.graph.input, *proto.graph.output):
        dims = value.type.tensor_type.shape.dim
        dims[0].dim_param = "batch"
        if value.name in inputs or outputs[value.name] == 3 or "start_logits" in outputs:
            dims[1].dim_param = "sequence"
    return proto


def _pack(proto: onnx.ModelProto, stored: Stored) -> None:
    """Put what is stored in parts in place of its dense tensor, which must be the model's weight itself: a transposed
    or changed one would be rebuilt wrongly."""
    unpacking = Unpacking()
    for name, half in stored.half.items():
        unpacking.half(name, half.numpy())
    for name, packed in stored.packed.items():
        unpacking.packed(name, packed)
    for name, coded in stored.coded.items():
        unpacking.coded(name, coded, integer=name in stored.integer)
    dense = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, array in stored.rebuilt():
        if name not in dense:
            raise ExportFailed(f"the graph has no weight called {name}")
        if not np.array_equal(numpy_helper.to_array(dense.pop(name)), array):
            raise ExportFailed(f"{name} in the graph is not the model's, of shape {array.shape}")
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(dense.values())
    unpacking.into(proto)
    multiply_whole(proto, stored.whole, stored.integer)


@contextmanager
def _eager_attention(model: nn.Module) -> Iterator[None]:
    transformer: Any = model
    before = transformer.config._attn_implementation
    transformer.set_attn_implementation("eager")
    try:
        yield
    finally:
        transformer.set_attn_implementation(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporter's notes on absent torchvision operators and its own deprecations."""
    loggers = [logging.getLogger(name) for name in _QUIET]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
