"""Ways to put quantised matrices into an ONNX graph, tried beside each other by `bench.formats`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
GROUP = 64
OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]


@dataclass
class Graph:
    """An ONNX graph as it grows."""

    initializers: list[TensorProto] = field(default_factory=list)
    nodes: list[NodeProto] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def constant(self, array: Array, name: str) -> str:
        if name not in self.names:
            self.names.add(name)
            self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        output = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def save(self, path: Path, width: int) -> None:
        self.nodes[-1].output[0] = output = "out"
        graph = helper.make_graph(
            self.nodes,
            "stack",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", "tokens", width])],
            self.initializers,
        )
        model = helper.make_model(graph, opset_imports=OPSETS, ir_version=10)
        path.write_bytes(model.SerializeToString())


@dataclass(frozen=True)
class Codes:
    """A matrix (rows, columns) in whole numbers from 0 on; a value is (code - zero) x the scale of its group."""

    codes: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float32]  # (rows, groups of GROUP columns)
    zero: int
    mask: npt.NDArray[np.bool_] | None = None

    def dense(self) -> npt.NDArray[np.float32]:
        scales = np.repeat(self.scales, GROUP, axis=1)[:, : self.codes.shape[1]]
        return ((self.codes.astype(np.float32) - self.zero) * scales).astype(np.float32)


def quantized(weight: Array, levels: int, mask: Array | None = None) -> Codes:
    """Round to nearest on a symmetric grid of `levels` values; masked entries are the zero code."""
    zero = levels // 2
    groups = weight.reshape(len(weight), -1, GROUP)
    most = np.abs(groups).max(axis=2)
    scales = (most / max(1, levels - 1 - zero)).astype(np.float16).astype(np.float32)
    codes = np.clip(np.round(groups / scales[:, :, None]) + zero, 0, levels - 1).astype(np.uint8).reshape(weight.shape)
    if mask is not None:
        codes = np.where(mask, codes, zero).astype(np.uint8)
    return Codes(codes, scales, zero, mask)


# How a dense matrix gets into the graph: each returns the name of its fp32 value (rows, columns).


def plain(graph: Graph, name: str, given: Codes) -> str:
    return graph.constant(given.dense(), name)


def digits(base: int, count: int) -> Callable[[Graph, str, Array], str]:
    """`count` codes below `base` in a byte: 5 trits, 4 pairs of bits, 2 nibbles, 1 byte."""

    def unpack(graph: Graph, name: str, codes: Array) -> str:
        found = graph.constant(in_bytes(codes, base, count), f"{name}.codes")
        if count == 1:
            return found
        column = graph.constant(np.array([1], np.int64), "column")
        found = graph.add("Unsqueeze", [found, column])
        if base & (base - 1) == 0:
            bits = base.bit_length() - 1
            shifts = graph.constant((bits * np.arange(count)).astype(np.uint8), f"shifts{base}")
            found = graph.add("BitShift", [found, shifts], direction="RIGHT")
            found = graph.add("BitwiseAnd", [found, graph.constant(np.array(base - 1, np.uint8), f"low{base}")])
        else:
            found = graph.add("Cast", [found], to=TensorProto.INT32)
            powers = graph.constant((base ** np.arange(count)).astype(np.int32), f"powers{base}")
            found = graph.add("Div", [found, powers])
            found = graph.add("Mod", [found, graph.constant(np.array(base, np.int32), f"base{base}")])
            found = graph.add("Cast", [found], to=TensorProto.UINT8)
        return cut(graph, found, codes.size)

    return unpack


def in_bytes(codes: Array, base: int, count: int) -> npt.NDArray[np.uint8]:
    """`count` codes below `base` in each byte, the first one lowest; zero-padded to whole bytes."""
    flat = codes.reshape(-1)
    padded = np.zeros(-(-flat.size // count) * count, np.uint8)
    padded[: flat.size] = flat
    found: npt.NDArray[np.uint8] = (padded.reshape(-1, count) * (base ** np.arange(count))).sum(axis=1).astype(np.uint8)
    return found


def tables(*parts: tuple[int, int]) -> Callable[[Graph, str, Array], str]:
    """Each byte looked up in a table of 256 rows: the codes that it holds. `parts`: (base, codes a byte), low part
    first, whose values add up: 3 bits are 2 bits and 1 bit."""

    def unpack(graph: Graph, name: str, codes: Array) -> str:
        rest, weight, found = codes.reshape(-1), 1, ""
        for base, count in parts:
            low, rest = rest % base, rest // base
            table = (np.arange(256)[:, None] // base ** np.arange(count) % base * weight).astype(np.float32)
            place = graph.constant(in_bytes(low, base, count), f"{name}.codes{weight}")
            place = graph.add("Cast", [place], to=TensorProto.INT32)
            looked = graph.add("Gather", [graph.constant(table, f"table{base}.{weight}"), place])
            looked = cut(graph, looked, codes.size)
            found = graph.add("Add", [found, looked]) if found else looked
            weight *= base
        return found

    return unpack


def planes(bits: int) -> Callable[[Graph, str, Array], str]:
    """A bitmap for each bit of the code: any width, to the bit."""

    def unpack(graph: Graph, name: str, codes: Array) -> str:
        flat = codes.reshape(-1)
        packed = np.stack([np.packbits((flat >> bit) & 1, bitorder="little") for bit in range(bits)])
        found = graph.constant(packed, f"{name}.codes")  # (bits, bytes)
        found = graph.add("Unsqueeze", [found, graph.constant(np.array([2], np.int64), "last")])
        found = graph.add("BitShift", [found, graph.constant(np.arange(8, dtype=np.uint8), "eight")], direction="RIGHT")
        found = graph.add("BitwiseAnd", [found, graph.constant(np.array(1, np.uint8), "one")])
        places = np.arange(bits, dtype=np.uint8).reshape(-1, 1, 1)
        found = graph.add("BitShift", [found, graph.constant(places, f"places{bits}")], direction="LEFT")
        parts = [found]
        if bits > 1:
            parts = [graph.add("Gather", [found, graph.constant(np.array(b, np.int64), f"i{b}")]) for b in range(bits)]
        total = parts[0]
        for part in parts[1:]:
            total = graph.add("BitwiseOr", [total, part])
        return cut(graph, total, flat.size)

    return unpack


def cut(graph: Graph, found: str, entries: int) -> str:
    """The first entries of whatever shape, as a vector."""
    found = graph.add("Reshape", [found, graph.constant(np.array([-1], np.int64), "flat")])
    start, stop = (graph.constant(np.array([n], np.int64), f"at{n}") for n in (0, entries))
    return graph.add("Slice", [found, start, stop])


def packed(unpack: Callable[[Graph, str, Array], str]) -> Callable[[Graph, str, Codes], str]:
    """Codes in words; survivors only, behind a bitmap, where there is a mask."""

    def emit(graph: Graph, name: str, given: Codes) -> str:
        shape = given.codes.shape
        if given.mask is None:
            codes = unpack(graph, name, given.codes)
        else:
            bitmap = planes(1)(graph, f"{name}.mask", given.mask.astype(np.uint8))
            bits = graph.add("Cast", [bitmap], to=TensorProto.INT32)
            place = graph.add("CumSum", [bits, graph.constant(np.array(0, np.int64), "axis")])
            place = graph.add("Mul", [place, bits])
            survivors = np.concatenate([[np.uint8(given.zero)], given.codes[given.mask]]).astype(np.uint8)
            codes = graph.add("Gather", [unpack(graph, name, survivors), place])
        codes = graph.add("Cast", [codes], to=TensorProto.FLOAT)
        codes = graph.add("Sub", [codes, graph.constant(np.array(given.zero, np.float32), f"zero{given.zero}")])
        codes = graph.add("Reshape", [codes, graph.constant(np.array(shape, np.int64), f"shape{shape}")])
        scales = graph.constant(given.scales.astype(np.float16), f"{name}.scales")
        scales = graph.add("Cast", [scales], to=TensorProto.FLOAT)
        group = graph.constant((np.arange(shape[1]) // GROUP).astype(np.int64), f"group{shape[1]}")
        return graph.add("Mul", [codes, graph.add("Gather", [scales, group], axis=1)])

    return emit


def dequantize_linear(bits: int) -> Callable[[Graph, str, Codes], str]:
    """The standard operator, blocked: opset 21 has 4 and 8 bits."""

    def emit(graph: Graph, name: str, given: Codes) -> str:
        signed = given.codes.astype(np.int16) - given.zero
        if bits == 4:
            flat = signed.reshape(-1).tolist()
            graph.initializers.append(helper.make_tensor(name, TensorProto.INT4, signed.shape, flat))
        else:
            graph.constant(signed.astype(np.int8), name)
        scales = graph.constant(given.scales, f"{name}.scales")
        return graph.add("DequantizeLinear", [name, scales], axis=1, block_size=GROUP)

    return emit


def words(codes: Array, bits: int) -> Array:
    """Codes of each row in little-endian words, for the operators of com.microsoft."""
    per = 8 // bits
    parts = codes.reshape(len(codes), -1, per).astype(np.uint16) << (bits * np.arange(per))
    found: Array = parts.sum(axis=2).astype(np.uint8)
    return found


class Standard:
    """Weights as fp32 values that standard operators make; ONNX Runtime folds them when it loads."""

    def __init__(self, emit: Callable[[Graph, str, Codes], str]) -> None:
        self.emit = emit

    def embedding(self, graph: Graph, name: str, given: Codes) -> str:
        return graph.add("Gather", [self.emit(graph, name, given), "ids"])

    def linear(self, graph: Graph, name: str, given: Codes, entering: str) -> str:
        return graph.add("MatMul", [entering, graph.add("Transpose", [self.emit(graph, name, given)], perm=[1, 0])])


class Contrib:
    """The operators of ONNX Runtime, which keep codes in memory: MatMulNBits and GatherBlockQuantized.

    Their zero is 2^(bits - 1); ours, of an odd number of levels, one less.
    """

    def __init__(self, bits: int, accuracy_level: int) -> None:
        self.bits, self.accuracy_level = bits, accuracy_level

    def embedding(self, graph: Graph, name: str, given: Codes) -> str:
        groups = given.scales.shape[1]
        zero = words(
            np.full((len(given.codes), -(-groups * self.bits // 8) * 8 // self.bits), given.zero + 1), self.bits
        )
        constants = {"codes": words(given.codes + 1, self.bits), "scales": given.scales, "zeros": zero}
        table, scales, zeros = (graph.constant(array, f"{name}.{part}") for part, array in constants.items())
        attributes = {"bits": self.bits, "block_size": GROUP, "gather_axis": 0, "quantize_axis": 1}
        return graph.add("GatherBlockQuantized", [table, "ids", scales, zeros], domain="com.microsoft", **attributes)

    def linear(self, graph: Graph, name: str, given: Codes, entering: str) -> str:
        count, columns = given.codes.shape
        blocks = words(given.codes + 1, self.bits).reshape(count, columns // GROUP, -1)
        constants = {"codes": blocks, "scales": given.scales.reshape(-1)}
        inputs = [graph.constant(array, f"{name}.{part}") for part, array in constants.items()]
        attributes = {"K": columns, "N": count, "bits": self.bits, "block_size": GROUP}
        return graph.add(
            "MatMulNBits", [entering, *inputs], domain="com.microsoft", accuracy_level=self.accuracy_level, **attributes
        )
