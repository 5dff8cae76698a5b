"""Low bits with error feedback: round a column, move what is left of its rows to make up, go on to the next.

The sweep is that of GPTQ (Frantar et al. 2022, arXiv 2210.17323) with the metric of `obs`: inputs of second moment C,
rows weighed as the distillation loss feels them, factors judged through their neighbour, tokens as they are frequent.
An entry is a level times the scale of its group of columns in its row; levels are fitted to each matrix (`core.grid`),
so 1.6, 2.6 and 3.6 bits (3, 6 and 12 levels) are as good a choice as whole bits. Per matrix the solution of rounding
to nearest stays where its layer error is lower. Masked entries stay zero and take no code. Of the rest of the model
matrices take `rest_bits`, vectors fp16.

Training that follows goes on with the rounded weights: gradients pass straight through to weights that are kept beside
them in fp32 (Bengio et al. 2013, arXiv 1308.3432). Files are as small as the bits say; after loading
the weights are fp32, so it saves bytes, not time. 8 bits are free, 4 bits nearly so at once, below 4 it wants training.
Does not help where factors and masks have already left few entries: there the scales weigh as much as the codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from core.errors import RecipeInvalid
from core.method import LEVELS, Bits, Method, Tensor, module_of

if TYPE_CHECKING:
    from core.phase import Build, Phase


class Gptq(Method):
    method: Literal["gptq"] = "gptq"
    bits: Bits | Literal["auto"] = Field(
        4.0,
        description='Of every linear, or of both its factors; "auto": bits, and ranks that are "auto", fill the bytes.',
    )
    embedding_bits: Bits | None = Field(None, description="Of the word embedding; null is as `bits`.")
    rest_bits: Literal[8, 32] = Field(8, description="Of other matrices, vectors then being fp16; 32 leaves both.")
    cut_weighs: float = Field(
        0.5,
        gt=0,
        le=10,
        description='What training leaves of a cut, against rounding: how "auto" trades ranks for bits.',
    )
    each: dict[str, Bits] | None = Field(None, description="Of the matrices named here, in place of the above.")
    group: int = Field(64, ge=8, le=65_536, description="Columns of a row that share a scale.")
    calibration_rows: int = Field(1024, ge=1, le=100_000, description="Training rows that C and G are taken from.")
    damping: float = Field(1e-2, ge=1e-5, le=1, description="Added to C and G, in units of their mean diagonal.")

    @model_validator(mode="after")
    def _auto_takes_all(self) -> Gptq:
        if self.bits == "auto" and (self.each is not None or self.embedding_bits is not None or self.rest_bits != 8):
            raise ValueError(
                'bits is "auto", which chooses for every matrix: leave out each, embedding_bits, rest_bits'
            )
        return self

    def levels(self, name: str, kind: str) -> int:
        """How many levels the matrix of a module, or another parameter, has; 0 leaves it as it is."""
        if kind == "fixed" and self.rest_bits == 32:
            return 0
        bits = self.rest_bits if kind == "fixed" else self.bits
        if kind == "embedding" and self.embedding_bits is not None:
            bits = self.embedding_bits
        bits = (self.each or {}).get(name, bits)
        if isinstance(bits, str):
            raise RecipeInvalid('bits is still "auto": core.spend.spend fills it')
        return LEVELS.get(bits, 0)

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Codes for matrices, fp16 for vectors."""
        return [self._stored(tensor) for tensor in tensors]

    def _stored(self, tensor: Tensor) -> Tensor:
        if tensor.rows == 1 and tensor.kind == "fixed":
            return tensor if self.rest_bits == 32 else replace(tensor, bits=16)
        levels = self.levels(module_of(tensor.name) if tensor.kind != "fixed" else tensor.name, tensor.kind)
        return replace(tensor, levels=levels, group=min(self.group, tensor.cols)) if levels else tensor

    def compile(self, build: Build) -> Iterable[Phase]:
        from core.rounding import put_on_grids, round_rest

        levels = {name: self.levels(name, "embedding" if name == build.family.embedding else "linear")
                  for name in build.compressible()}  # fmt: skip
        put_on_grids(build, levels, self.group, build.moments(self.calibration_rows), self.damping)
        if self.rest_bits != 32:
            round_rest(build, partial(self.levels, kind="fixed"), self.group)
        return ()
