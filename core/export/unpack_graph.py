"""Stored weights -> fp32 tensors, in standard ONNX operators on constants.

ONNX Runtime folds these nodes when it makes the session, so the running graph holds one plain initializer. Bytes are
looked up in a table of their 256 values, one row of digits each: one form for any number of levels (decision 0007).
The place of a masked entry's survivor is the number of set bits up to it: a running sum over the bits, zero where the
bit is unset, looked up in [0, survivors].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper, numpy_helper

from core.codes import A_BYTE, DIGITS
from core.export.code import Coded
from core.export.digits import table
from core.export.pack import Packed

Array = npt.NDArray[Any]
PREFIX = "unpack"  # of the constants that several tensors share


class Unpacking:
    """Initializers and nodes, in running order, that rebuild the tensors that were added."""

    def __init__(self) -> None:
        self.initializers: list[TensorProto] = []
        self.nodes: list[NodeProto] = []
        self._shared: set[str] = set()

    def half(self, name: str, stored: npt.NDArray[np.float16]) -> None:
        """A tensor in fp16."""
        self._add("Cast", [self._own(f"{name}.half", stored)], name, to=TensorProto.FLOAT)

    def packed(self, name: str, stored: Packed) -> None:
        """Bitmap + survivors."""
        values = self._own(f"{name}.values", stored.values)
        self._shaped(self._scattered(name, stored.bitmap, values, stored.shape), stored.shape, name)

    def coded(self, name: str, stored: Coded) -> None:
        """Codes, levels, scales, and a bitmap where entries are masked."""
        parts = {part: self._own(f"{name}.{part}", array) for part, array in stored.parts().items() if part != "bitmap"}
        entries, levels = int(np.prod(stored.shape)), len(stored.levels)
        if stored.bitmap is not None:
            entries = int(np.unpackbits(stored.bitmap).sum())
        codes, weight = "", 1
        for place, base in enumerate(DIGITS[levels]):
            digits = self._digits(parts[f"codes{place}"], base, weight, entries)
            codes = self._add("Add", [codes, digits]) if codes else digits
            weight *= base
        values = self._add("Gather", [self._add("Cast", [parts["levels"]], to=TensorProto.FLOAT), codes])
        if stored.bitmap is not None:
            values = self._scattered(name, stored.bitmap, values, stored.shape)
        values = self._shaped(values, stored.shape)
        self._add("Mul", [values, self._spread(parts["scales"], stored)], name)

    def _spread(self, scales: str, stored: Coded) -> str:
        """The scale of every entry, (rows, columns)."""
        rows, columns = stored.shape
        found = self._add("Cast", [scales], to=TensorProto.FLOAT)
        found = self._add("Unsqueeze", [found, self._constant("at2", 2)])  # (rows, groups, 1)
        found = self._add("Expand", [found, self._constant(f"group{stored.group}", 1, 1, stored.group)])
        found = self._add("Reshape", [found, self._constant(f"rows{rows}", rows, -1)])
        if columns % stored.group:
            inside = [self._constant("at0", 0), self._constant(f"at{columns}", columns), self._constant("at1", 1)]
            found = self._add("Slice", [found, *inside])
        return found

    def _digits(self, stored: str, base: int, weight: int, count: int) -> str:
        """The first `count` digits of a byte array, times the weight of their place: int32 (count,)."""
        digits = self._vector(f"table{base}.{weight}", table(base) * np.uint8(weight))
        found = self._add("Gather", [digits, self._add("Cast", [stored], to=TensorProto.INT32)])  # (bytes, digits)
        found = self._add("Reshape", [found, self._constant("flat", -1)])
        if count % A_BYTE[base]:
            found = self._add("Slice", [found, self._constant("at0", 0), self._constant(f"at{count}", count)])
        return self._add("Cast", [found], to=TensorProto.INT32)

    def _scattered(self, name: str, bitmap: Array, values: str, shape: tuple[int, ...]) -> str:
        """Survivors in their places among zeros, (entries,)."""
        stored = self._own(f"{name}.bitmap", bitmap)
        bits = self._digits(stored, 2, 1, int(np.prod(shape, dtype=np.int64)))
        place = self._add("CumSum", [bits, self._constant("at0", 0)])
        place = self._add("Mul", [place, bits])
        zero = self._vector("zero", np.zeros(1, np.float32))
        return self._add("Gather", [self._add("Concat", [zero, values], axis=0), place])

    def _shaped(self, values: str, shape: tuple[int, ...], name: str = "") -> str:
        wanted = self._constant(f"shape{'x'.join(map(str, shape))}", *shape)
        return self._add("Reshape", [values, wanted], name)

    def _own(self, name: str, array: Array) -> str:
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def _constant(self, name: str, *numbers: int) -> str:
        return self._vector(name, np.array(numbers, np.int64))

    def _vector(self, name: str, array: Array) -> str:
        """One that other tensors share, once a graph."""
        name = f"{PREFIX}.{name}"
        if name not in self._shared:
            self._shared.add(name)
            self._own(name, array)
        return name

    def _add(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{PREFIX}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output
