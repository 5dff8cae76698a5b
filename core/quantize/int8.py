"""Eight bits for speed: integer products of weights rounded once and inputs rounded batch by batch.

Every encoder linear, or both its factors, is multiplied in int8: weights are whole numbers from -64 to 64 with one
scale a row, inputs are rounded to 256 evenly spaced values at the scale of each batch, sums are int32 (dynamic
quantization of ONNX Runtime; Jacob et al. 2018, arXiv 1712.05877). On processors with integer dot products (VNNI, Arm
dotprod) that is two to three times as fast as fp32; the file is a quarter. What is left takes codes of eight bits and
fp16, which save bytes only; so does the word embedding, in fewer bits where they are asked for (`gptq`'s sweep).

As the last step it costs seconds and next to no accuracy. A `distill` after it trains through the rounding of both.
Does not help where int8 products have no hardware, or in factors so thin that rounding inputs costs more than it saves.
An answer depends a little on the rows that share its batch, for these share the scale of inputs. On x86 without VNNI
ONNX Runtime adds pairs of products in 16 bits; larger weights would overflow them, so that one file would answer
differently from machine to machine. Training through the rounding makes up for the bit that this takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from core import codes
from core.method import LEVELS, Bits, Method, Tensor

if TYPE_CHECKING:
    from core.phase import Build, Phase

REST = 256  # levels of what is not multiplied


class Int8(Method):
    version: ClassVar[int] = 2
    multiplies: ClassVar[bool] = True

    method: Literal["int8"] = "int8"
    products: Literal["int8", "fp32", "auto"] = Field(
        "int8", description='fp32: bytes alone, linears take codes of 8 bits too; "auto": as milliseconds ask for.'
    )
    embedding_bits: Bits | Literal["auto"] = Field(
        8.0,
        description='Of the word embedding, below 8 with error feedback; "auto": as bytes beside milliseconds ask for.',
    )
    group: int = Field(64, ge=8, le=65_536, description="Columns that share a scale, of word embedding and the rest.")

    calibration_rows: int = Field(1024, ge=1, le=100_000, description="Training rows that C and G are taken from.")
    damping: float = Field(1e-2, ge=1e-5, le=1, description="Added to C and G, in units of their mean diagonal.")

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Bytes for linears with a scale a row, codes of a byte for other matrices, fp16 for vectors."""
        return [self._stored(tensor) for tensor in tensors]

    def _stored(self, tensor: Tensor) -> Tensor:
        if tensor.kind == "linear" and self.products != "fp32":
            return replace(tensor, levels=codes.INT8, group=tensor.cols)
        if tensor.rows == 1 and tensor.kind == "fixed":
            return replace(tensor, bits=16)
        levels = self._embedding() if tensor.kind == "embedding" else REST
        return replace(tensor, levels=levels, group=min(self.group, tensor.cols))

    def _embedding(self) -> int:
        return REST if self.embedding_bits == "auto" else LEVELS[self.embedding_bits]

    def compile(self, build: Build) -> Iterable[Phase]:
        from core.rounding import put_on_grids, put_on_int8, round_rest

        if (levels := self._embedding()) != REST:
            moments = build.moments(self.calibration_rows)
            put_on_grids(build, {build.family.embedding: levels}, self.group, moments, self.damping)
        if self.products != "fp32":
            put_on_int8(build)
        round_rest(build, lambda _: REST, self.group)
        return ()
