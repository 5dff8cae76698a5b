"""`openvino`: OpenVINO's IR, `model.xml` with `model.bin`, weights in fp16 as OpenVINO itself saves them.

Made from the dense ONNX graph by OpenVINO's own reader. Products are computed in fp32 where that is asked for
(`INFERENCE_PRECISION_HINT`, as `verify.py` and the card do); left to itself OpenVINO takes bf16 where the processor
has it. Linears that round their inputs take them as they come.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch

from core.errors import ExportFailed
from core.export.formats.copied import copied
from core.export.onnx import MAX_BYTES, dense
from core.grid import half
from core.phase import Build

rounds = False


@torch.no_grad()
def twin(build: Build) -> Build:
    """The student with every weight an fp16 number, in fp32."""
    found = copied(build, rounding=False)
    for parameter in found.model.parameters():
        parameter.copy_(half(parameter))
    return found


def write(twin: Build, path: Path) -> None:
    """Write `path` (.xml) and the .bin beside it.

    Raises:
        ExportFailed: more than 2 GB of fp32 weights, or what OpenVINO does not read.
    """
    import openvino  # noqa: PLC0415 - an extra: workers that nobody asks for it do without

    size = sum(parameter.nbytes for parameter in twin.model.parameters())
    if size > MAX_BYTES:
        raise ExportFailed(f"{size} bytes of weights in fp32; OpenVINO reads at most {MAX_BYTES} at once")
    graph = io.BytesIO(dense(twin.model).SerializeToString(deterministic=True))
    try:
        openvino.save_model(openvino.Core().read_model(graph), str(path), compress_to_fp16=True)
    except RuntimeError as error:
        raise ExportFailed(f"OpenVINO does not take the graph: {str(error)[-500:]}") from error
