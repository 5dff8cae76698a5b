"""Structured pruning: whole attention heads and feed-forward neurons go, what stays is refitted, shapes shrink.

A head or neuron is a group S of columns of the linear that reads it. Without them the reader makes up as well as least
squares can: its layer error then grows by tr(G W_S ([C⁻¹]_SS)⁻¹ W_Sᵀ), with C the covariance of its inputs and G what
the distillation loss feels of its outputs (`core.calibrate`). Units go in the order of that price, each priced after
those before it are gone: the optimal brain surgeon on structures (ZipLM: Kurtic et al. 2023, arXiv 2302.04089). Means
that the lost units had go into the bias, which costs nothing. `score` "fisher" prices each unit once, as it is felt
when it goes and nothing moves, tr(G W_S C_SS W_Sᵀ) (Kwon et al. 2022, arXiv 2204.09656, in K-FAC form), and refits
after. A layer's attention or feed-forward block without units is skipped; a layer without both is next to nothing.

`each` says how many heads or neurons stay, by the linear that reads them; `keep` is the same share for all. Where
`keep` is "auto" and the target is one of time, the plan chooses by the milliseconds that units take on the machine.
Counts of neurons are multiples of `align`, which kernels like. A reader that has no bias gets none: least squares then
goes through the origin. Heads that share one bias of positions over all layers (MPNet) stay, whatever `keep` says;
those of DeBERTa go where a number says so, and are not what a plan of milliseconds chooses.

Gives time in every runtime, bytes and parameters alike: the shapes are smaller and dense. Takes more accuracy for a
byte than factors and low bits do, so it is for milliseconds; follow it with `distill`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from core.family import Block, block_of
from core.method import Keep, Method, Tensor, resolved

if TYPE_CHECKING:
    from core.phase import Build, Phase
    from core.removal import Reader, Removal

Score = Literal["obs", "fisher"]


class Structured(Method):
    reads_units: ClassVar[bool] = True

    method: Literal["structured"] = "structured"
    keep: Keep = Field("auto", description='Share of the heads and neurons of every layer that stay, or "auto".')
    each: dict[str, Annotated[int, Field(ge=0)]] | None = Field(
        None, description="Heads or neurons that stay, by the linear that reads them; others all. In place of `keep`."
    )
    score: Score = Field("obs", description="Price of a unit: with the rest refitted, or as it is felt alone.")
    align: int = Field(32, ge=1, le=1024, description="Neurons that stay are a multiple of this.")
    calibration_rows: int = Field(1024, ge=1, le=100_000, description="Training rows that C and G are taken from.")
    damping: float = Field(1e-3, ge=1e-5, le=1, description="Added to C and G, in units of their mean diagonal.")

    def units(self, name: str, cols: int, unit: int) -> int:
        """How many units of the linear `name` stay of the cols / unit that it reads."""
        every = cols // unit
        if self.each is not None:
            return min(every, self.each.get(name, every))
        step = self.align if unit == 1 else 1
        return min(every, max(1, round(resolved(self.keep) * every / step)) * step)

    def narrows(self, before: Method) -> bool:
        """Whether it is the same but for how many units stay, and none stays that `before` removed."""
        alike = {"keep": 1.0, "each": None}
        if not isinstance(before, Structured) or self.model_copy(update=alike) != before.model_copy(update=alike):
            return False
        if self.each is None or before.each is None:
            return self.each == before.each and resolved(self.keep) <= resolved(before.keep)
        each = self.each
        return all(name in each and each[name] <= count for name, count in before.each.items())

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Fewer columns of the readers, as many fewer rows of the writers and entries of their biases."""
        widths: dict[str, int] = {}  # reader, writer, or bias of a writer -> columns, rows or entries that are left
        for tensor in tensors:
            if tensor.unit and (block := block_of(tensor.name)):
                left = self.units(tensor.name, tensor.cols, tensor.unit) * tensor.unit
                widths |= {tensor.name: left} | dict.fromkeys(block.writers, left * block.stacked)
                widths |= dict.fromkeys((f"{writer}.bias" for writer in block.writers), left * block.stacked)
        found = []
        for tensor in tensors:
            left = widths.get(tensor.name, -1)
            if left < 0:
                found.append(tensor)
            elif left:
                rows, cols = (left, tensor.cols) if tensor.kind == "linear" and not tensor.unit else (tensor.rows, left)
                found.append(replace(tensor, rows=rows, cols=cols, kept=rows * cols))
        return found

    def compile(self, build: Build) -> Iterable[Phase]:
        import torch

        from core.removal import columns_of
        from core.surgery import narrow, written

        for name, block, unit in self.blocks(build):
            every = build.teacher.get_submodule(name).get_parameter("weight").shape[1]
            count = self.units(name, every, unit)
            if count * unit == build.weight(name).shape[1]:
                continue
            reader, way = self.way(build, name)
            stays = torch.tensor(sorted(way.order[reader.units - count :]), dtype=torch.long)
            columns = places = columns_of(stays, reader.unit)
            if (left := build.left.get(name, (None, None))[1]) is not None:
                # A student that goes on: its training has moved what is left of it.
                bias = getattr(build.model.get_submodule(name), "bias", None)
                bias = reader.bias if bias is None else bias.detach()
                reader, places = reader.narrowed(left, build.weight(name), bias), torch.searchsorted(left, columns)
            narrow(build.model, block, places, *reader.refitted(places))
            build.left[name] = (None, columns)
            build.left |= dict.fromkeys(block.writers, (written(block, columns, every), None))
        return ()

    def blocks(self, build: Build) -> list[tuple[str, Block, int]]:
        """Of every block of the teacher: its reader's name, the block, columns of a unit."""
        from core.removal import unit_of

        found = ((name, build.family.block(name)) for name in build.compressible())
        return [(name, block, unit_of(build, block)) for name, block in found if block]

    def way(self, build: Build, name: str) -> tuple[Reader, Removal]:
        """The teacher's reader of that name; the way from all its units to none, which is computed once for a job."""
        from core.removal import reader, removal

        found = reader(build, name, self.calibration_rows, self.damping)
        key = ("removal", name, self.score, self.calibration_rows, self.damping)
        return found, build.shared.once(key, lambda: removal(found, self.score))
