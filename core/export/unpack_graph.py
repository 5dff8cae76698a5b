"""Stored weights -> fp32 tensors, in standard ONNX operators on constants.

ONNX Runtime folds these nodes when it makes the session, so the running graph holds one plain initializer. Bytes are
looked up in a table of their 256 values, one row of digits each: one form for any number of levels (decision 0007).
The place of a masked entry's survivor is the number of set bits up to it: a running sum over the bits, zero where the
bit is unset, looked up in [0, survivors]. Each way to unpack is written once, as a function of the model that is made
of those operators, and called for every weight stored so: a call takes some 200 bytes where its nodes take a thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from core import codes
from core.codes import DIGITS
from core.export.code import Coded
from core.export.digits import table
from core.export.pack import Packed

Array = npt.NDArray[Any]
OPSET = 20
DOMAIN = "unpack"  # of the functions, and what begins the names of constants that several weights share


class Unpacking:
    """Initializers, and calls of functions, that rebuild the tensors that were added."""

    def __init__(self) -> None:
        self.initializers: dict[str, TensorProto] = {}
        self.nodes: list[NodeProto] = []
        self.functions: dict[str, FunctionProto] = {}

    def half(self, name: str, stored: npt.NDArray[np.float16]) -> None:
        """A tensor in fp16."""
        self.nodes.append(helper.make_node("Cast", [self._own(f"{name}.half", stored)], [name], to=TensorProto.FLOAT))

    def packed(self, name: str, stored: Packed) -> None:
        """Bitmap + survivors."""
        given = {part: self._own(f"{name}.{part}", getattr(stored, part)) for part in ("bitmap", "values")}
        given |= {"digits2": self._own(f"{DOMAIN}.digits2", table(2)), "shape": self._numbers(*stored.shape)}
        self._call("Packed", _packed, given, name)

    def coded(self, name: str, stored: Coded, *, integer: bool = False) -> None:
        """Codes, levels, scales, and a bitmap where entries are masked.

        Args:
            integer: as `NAME.int8` (columns, rows) and `NAME.scale` (rows,), for products of integers: levels are whole
                numbers and a row has one scale.
        """
        given = {part: self._own(f"{name}.{part}", array) for part, array in stored.parts().items()}
        levels, masked = len(stored.levels), stored.bitmap is not None
        bases = {*DIGITS[levels], *([2] if masked else [])}
        given |= {f"digits{base}": self._own(f"{DOMAIN}.digits{base}", table(base)) for base in sorted(bases)}
        given["shape"] = self._numbers(*stored.shape)
        kind = codes.kind(levels, stored.group, stored.shape, masked=masked)
        if "Ragged" in kind:
            given["kept"] = self._numbers(stored.entries)
        if integer:
            made = [f"{name}.int8", f"{name}.scale"]
            self._call(f"{codes.INTEGER}{kind}", lambda body: _integer(body, given.keys(), levels), given, *made)
        else:
            self._call(
                kind, lambda body: _coded(body, given.keys(), levels, stored.group, "Uneven" in kind), given, name
            )

    def into(self, proto: ModelProto) -> None:
        """Put all of it before the nodes of a model."""
        nodes = [*self.nodes, *proto.graph.node]
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)
        proto.graph.initializer.extend(self.initializers.values())
        if self.functions:
            proto.functions.extend(self.functions.values())
            proto.opset_import.append(helper.make_opsetid(DOMAIN, 1))

    def _own(self, name: str, array: Array) -> str:
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def _numbers(self, *numbers: int) -> str:
        return self._own(f"{DOMAIN}.{'x'.join(map(str, numbers))}", np.array(numbers, np.int64))

    def _call(self, kind: str, write: Callable[[Body], None], given: dict[str, str], *names: str) -> None:
        if kind not in self.functions:
            body = Body()
            write(body)
            self.functions[kind] = helper.make_function(
                DOMAIN,
                kind,
                list(given),
                ["weight", "scale"][: len(names)],
                body.nodes,
                [helper.make_opsetid("", OPSET)],
            )
        self.nodes.append(helper.make_node(kind, list(given.values()), names, domain=DOMAIN))


class Body:
    """Nodes of one function, in running order; its result is called "weight"."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, array: Array) -> str:
        return self.add("Constant", value=numpy_helper.from_array(array))

    def numbers(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))


def _packed(body: Body) -> None:
    body.add("Reshape", _scattered(body, "values"), "shape", output="weight")


def _coded(body: Body, given: Container[str], levels: int, group: int, uneven: bool) -> None:
    """Levels of the codes in their places, times the scale of every entry."""
    values, scales = _values(body, given, levels), _scales(body, given)
    scales = body.add("Unsqueeze", scales, body.numbers(2))  # (rows, groups, 1)
    scales = body.add("Expand", scales, body.numbers(1, 1, group))
    rows = body.add("Gather", "shape", body.numbers(0))
    scales = body.add("Reshape", scales, body.add("Concat", rows, body.numbers(-1), axis=0))
    if uneven:
        scales = body.add("Slice", scales, body.numbers(0, 0), "shape")
    body.add("Mul", values, scales, output="weight")


def _integer(body: Body, given: Container[str], levels: int) -> None:
    """The levels as int8, turned, and the scales beside them."""
    numbers = body.add("Cast", _values(body, given, levels), to=TensorProto.INT8)
    body.add("Transpose", numbers, output="weight", perm=[1, 0])
    body.add("Reshape", _scales(body, given), body.numbers(-1), output="scale")


def _values(body: Body, given: Container[str], levels: int) -> str:
    """Levels of the codes in their places, (rows, columns)."""
    chosen, weight = "", 1
    for place, base in enumerate(DIGITS[levels]):
        digits = _digits(body, f"codes{place}", base, "kept" if "kept" in given else "")
        if chosen:
            digits = body.add("Mul", digits, body.constant(np.array(weight, np.int32)))
        chosen = body.add("Add", chosen, digits) if chosen else digits
        weight *= base
    values = body.add("Gather", body.add("Cast", "levels", to=TensorProto.FLOAT), chosen)
    if "bitmap" in given:
        values = _scattered(body, values)
    return body.add("Reshape", values, "shape")


def _scales(body: Body, given: Container[str]) -> str:
    """(rows, groups), fp32."""
    scales = "scales"
    if "table" in given:
        scales = body.add("Gather", "table", body.add("Cast", scales, to=TensorProto.INT32))
    return body.add("Cast", scales, to=TensorProto.FLOAT)


def _digits(body: Body, stored: str, base: int, count: str = "") -> str:
    """The first `count` digits of a byte array, or all of them: int32, flat."""
    found = body.add("Gather", f"digits{base}", body.add("Cast", stored, to=TensorProto.INT32))  # (bytes, digits)
    found = body.add("Reshape", found, body.numbers(-1))
    if count:
        found = body.add("Slice", found, body.numbers(0), count)
    return body.add("Cast", found, to=TensorProto.INT32)


def _scattered(body: Body, values: str) -> str:
    """Survivors in their places among zeros, (entries,)."""
    entries = body.add("ReduceProd", "shape", keepdims=1)
    bits = _digits(body, "bitmap", 2, entries)
    place = body.add("CumSum", bits, body.numbers(0))
    place = body.add("Mul", place, bits)
    zero = body.constant(np.zeros(1, np.float32))
    return body.add("Gather", body.add("Concat", zero, values, axis=0), place)
