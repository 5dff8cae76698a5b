"""`onnx-fp16`: weights and products in half precision, token ids in, fp32 logits out.

The graph is traced from the model in half precision, so that what a family computes in fp32 (angles of rotary
positions) stays so and the smallest number of a mask is one of fp16. Weights are plain initializers, masked ones dense:
what graphics processors and other tools for ONNX take. ONNX Runtime on a CPU computes in fp32 between fp16 tensors.
Linears that round their inputs take them as they come.
"""

from __future__ import annotations

from pathlib import Path

from onnx import ModelProto, TensorProto, helper

from core.errors import ExportFailed
from core.export.formats.copied import copied
from core.export.onnx import MAX_BYTES, dense
from core.phase import Build

rounds = True


def twin(build: Build) -> Build:
    """The student in half precision."""
    found = copied(build, rounding=False)
    found.model.half()
    return found


def write(twin: Build, path: Path) -> None:
    """Raises ExportFailed where the weights are more than 2 GB."""
    size = sum(parameter.nbytes for parameter in twin.model.parameters())
    if size > MAX_BYTES:
        raise ExportFailed(f"{size} bytes of weights in fp16; one ONNX file holds at most {MAX_BYTES}")
    proto = dense(twin.model)
    _widen(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _widen(proto: ModelProto) -> None:
    """Outputs in fp32."""
    for output in proto.graph.output:
        inner = f"{output.name}.half"
        for node in proto.graph.node:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name == output.name:
                        names[place] = inner
        proto.graph.node.append(helper.make_node("Cast", [inner], [output.name], to=TensorProto.FLOAT))
        output.type.tensor_type.elem_type = TensorProto.FLOAT
