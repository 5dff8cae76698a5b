"""Every trained weight of three values becomes the sum of two of two values, to the bit; then training goes on.

The halves of a weight w whose ternary form is t add up to w, and their binary forms to t (BinaryBERT, Bai et al. 2021,
arXiv 2012.15701, section 3.2): the student that a training of `ternary` left is the one that the next training
begins with, and of each sum four values are then free where there were three. Two bits an entry, eight of each half to
a byte: with half of the heads and neurons removed before (`structured`), one bit for each entry of the teacher. After
loading a sum is one matrix.

`matrices` "auto" is adaptive splitting (section 3.4 there): within the bytes of a target it splits those that gain most
for a byte, by what rounding them to four values in place of three is worth to the distillation loss; the others stay of
three values, at 1.6 bits. In place of a trained model for every candidate, as in the paper, the gain is measured once,
on the teacher.

Better than `binary`, which has to find its way down from the teacher at once. It saves no byte itself, and does not go
without `ternary` and a training before it, and a training after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from core.method import Method, Tensor
from core.searching import Way

if TYPE_CHECKING:
    from core.phase import Build, Phase


class BinarySplit(Method):
    needs_training: ClassVar[bool] = True
    follows: ClassVar[str] = "ternary"

    searches: ClassVar[bool] = True
    choices: ClassVar[tuple[float, ...]] = (1.6, 2.0)
    levels: ClassVar[tuple[int, ...]] = (3, 4)  # what a row's entries may be: three values, or sums of two of two
    ways: ClassVar[tuple[Way, ...]] = ("closed_form",)

    method: Literal["binary_split"] = "binary_split"
    matrices: Literal["all", "auto"] = Field(
        "all", description='What is split; "auto": what gains most, within the bytes of a target.'
    )
    each: dict[str, Literal["0", "1"]] | None = Field(
        None, description='Of each matrix "1" where it is split, "0" where it stays: found before, no search.'
    )
    calibration_rows: int = Field(1024, ge=1, le=100_000, description="Training rows that C and G are taken from.")
    damping: float = Field(1e-2, ge=1e-5, le=1, description="Added to C and G, in units of their mean diagonal.")

    @model_validator(mode="after")
    def _all_or_some(self) -> BinarySplit:
        if self.each is not None and self.matrices == "all":
            raise ValueError('each says what is split: it goes with matrices "auto"')
        return self

    @property
    def searching(self) -> bool:
        """Whether what is split is still to be found."""
        return self.matrices == "auto" and self.each is None

    def rows_of(self, rows: int) -> list[int]:
        """Of a matrix all rows go together."""
        return [rows]

    def group_of(self, _levels: int, columns: int) -> int:
        """A row has one scale."""
        return columns

    def splits(self, name: str) -> bool:
        """Whether the matrix of a module is split."""
        return self.matrices == "all" or (self.each or {}).get(name, "1") == "1"

    def objection(self, before: Sequence[Method]) -> str | None:
        found = next((one for one in before if one.name() == self.follows), None)
        if found is None:
            return f"needs a step {self.follows} and a training before it: it splits weights of three values"
        if getattr(found, "inputs", "fp32") != "fp32":
            return f'splits weights whose inputs come as they are: leave `inputs` of {self.follows} at "fp32"'
        if any(one.family() == "factorize" for one in before):
            return "splits whole matrices: leave out the factors"
        return None

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Two of one bit an entry in the place of each matrix of three values."""
        found: list[Tensor] = []
        for one in tensors:
            halves = ("first", "second") if one.kind != "fixed" and self.splits(one.name) else ()
            found += [replace(one, name=f"{one.name}.{half}", levels=2) for half in halves] or [one]
        return found

    def compile(self, build: Build) -> Iterable[Phase]:
        from core.binarize import binary, split
        from core.masking import prunable
        from core.surgery import split_in_two
        from core.ternarize import Ternary

        for name, parameter in prunable(build).items():
            values, rounded = build.values.pop(name), parameter.detach()
            if not isinstance(values, Ternary):
                raise TypeError(f"{name} is no weight of three values")
            latent = build.latent.pop(name, rounded)
            if not (values.quick(latent) == rounded).all():  # weights of another moment were kept
                latent = rounded
            module = name.rpartition(".")[0]
            if not self.splits(module):
                build.values[name] = values
                rounded.copy_(latent)  # the next training goes on with it
                continue
            halves = split(latent, rounded, shared=values.shared)
            split_in_two(build.model, module, *(half.float() for half in halves))
            for part in ("first", "second"):
                weight = build.model.get_parameter(f"{module}.{part}").detach()
                build.values[f"{module}.{part}"] = binary(weight, shared=values.shared)
        build.latent.clear()
        return ()
