"""Bitmap + survivors -> tensor, in standard ONNX operators on constants.

ONNX Runtime folds these nodes when it makes the session, so the running graph holds one plain initializer. The
place of an entry's survivor is the number of set bits up to it: a running sum over the bits, zero where the bit is
unset, looked up in [0, survivors]. Source: tried, 9 M entries fold in half a second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from core.export.pack import Packed

PREFIX = "unpack"  # of the constants that all tensors share


def shared() -> list[onnx.TensorProto]:
    """Constants that every unpacking uses; once a graph."""
    constants: dict[str, npt.NDArray[Any]] = {
        "columns": np.array([1], np.int64),
        "shifts": np.arange(8, dtype=np.uint8),
        "one": np.array(1, np.uint8),
        "flat": np.array([-1], np.int64),
        "start": np.array([0], np.int64),
        "axis": np.array(0, np.int64),
        "zero": np.array([0], np.float32),
    }
    return [numpy_helper.from_array(array, f"{PREFIX}.{name}") for name, array in constants.items()]


def unpacking(index: int, name: str, packed: Packed) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Initializers and nodes, in running order, whose last output is the dense fp32 tensor called `name`.

    `index` makes the names in between unique and short: they are most of the graph's bytes.
    """
    entries = int(np.prod(packed.shape, dtype=np.int64))
    constants: dict[str, npt.NDArray[Any]] = {
        f"{name}.bitmap": packed.bitmap,
        f"{name}.values": packed.values,
        f"{index}.shape": np.array(packed.shape, np.int64),
        f"{index}.entries": np.array([entries], np.int64),
    }
    initializers = [numpy_helper.from_array(array, constant) for constant, array in constants.items()]
    nodes: list[onnx.NodeProto] = []

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    rows = add("Unsqueeze", [f"{name}.bitmap", f"{PREFIX}.columns"], f"{index}.1")  # (bytes, 1)
    shifted = add("BitShift", [rows, f"{PREFIX}.shifts"], f"{index}.2", direction="RIGHT")  # (bytes, 8)
    bits = add("BitwiseAnd", [shifted, f"{PREFIX}.one"], f"{index}.3")
    bits = add("Reshape", [bits, f"{PREFIX}.flat"], f"{index}.4")
    bits = add("Slice", [bits, f"{PREFIX}.start", f"{index}.entries"], f"{index}.5")  # (entries,)
    bits = add("Cast", [bits], f"{index}.6", to=TensorProto.INT32)
    place = add("CumSum", [bits, f"{PREFIX}.axis"], f"{index}.7")
    place = add("Mul", [place, bits], f"{index}.8")
    values = add("Concat", [f"{PREFIX}.zero", f"{name}.values"], f"{index}.9", axis=0)  # (1 + survivors,)
    flat = add("Gather", [values, place], f"{index}.10")
    add("Reshape", [flat, f"{index}.shape"], name)
    return initializers, nodes
