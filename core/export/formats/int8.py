"""`onnx-int8`: what the method `int8` would make of the finished student as its last step.

Every encoder linear, or both its factors, is an integer product: DynamicQuantizeLinear and MatMulInteger, which ONNX
Runtime fuses (core/quantize/int8.py). What has no grid yet is stored in codes of 8 bits and vectors in fp16; a word
embedding in fewer bits keeps them. A linear that multiplies in int8 already stays as it was trained.
"""

from __future__ import annotations

from pathlib import Path

import torch

from core.export import onnx
from core.export.formats.copied import copied
from core.phase import Build
from core.quantize.int8 import REST
from core.rounding import put_on_int8, round_rest
from core.surgery import rounding_inputs

rounds = False  # `core.parity` allows for it where inputs are rounded
GROUP = 64


@torch.no_grad()
def twin(build: Build) -> Build:
    """The student with linears in int8; they round their inputs."""
    found = copied(build, rounding=True)
    put_on_int8(found, but=rounding_inputs(found.model))
    round_rest(found, lambda _: REST, GROUP)
    for name, mask in found.masks.items():  # levels need not hold zero
        found.model.get_parameter(name).mul_(mask.cpu())
    return found


def write(twin: Build, path: Path) -> None:
    """Raises ExportFailed, see `core.export.onnx.write`."""
    onnx.write(twin.model, twin.masks, path, values=twin.values)
