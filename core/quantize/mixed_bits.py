"""Bits for every group of rows: {0, 2, 4} or other choices, searched beside the weights and by a closed form.

Each matrix is cut into `blocks` groups of rows; a group takes one of `choices`, 0 being pruned. Two ways find which, in
the same job, and the student that loses less before training is the one that is trained. "gumbel": AQ-BERT's two-level
search (Zhao et al. 2021, arXiv 2112.14938, in the first-order form of DARTS): each group's choice is a softmax of
logits with Gumbel noise, whose temperature falls; on half of the rows the weights follow the distillation loss and a
group lasso, on the other half the logits follow the same loss and a penalty where the expected size leaves its `band`;
in the end the logits buy choices within the bytes. "closed_form": the layer error of every group in every choice, as
the distillation loss feels it, and one Lagrangian over all (as `gptq` with bits "auto" has it for whole matrices).
Either way rows of more than three values are rounded with the error feedback of `gptq`; rows of two or three have one
scale each, which follows what is trained, as in `binary` and `ternary`. Rows of like bits are stored together, with a
number of two bytes a row that says where it stands.

Finer than bits for whole matrices, so it gains where rows of one matrix differ: tokens of the embedding, above all.
It saves bytes, not time, wants training below 4 bits, and the search costs `steps` trainings steps of two halves each.
Does not help over `gptq` where a matrix' rows are alike. Takes whole matrices: not after factors or masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from core.errors import RecipeInvalid
from core.method import LEVELS, Method, Tensor, known_bits, part_of, place_bits, rest_of
from core.searching import Way

if TYPE_CHECKING:
    from core.phase import Build, Phase

FOLLOWING = (2, 3)  # levels of rows whose values follow what is trained
Choice = Annotated[float, AfterValidator(lambda bits: bits and known_bits(bits)),
                   Field(json_schema_extra={"enum": [0, *LEVELS]})]  # fmt: skip


class MixedBits(Method):
    version: ClassVar[int] = 2
    searches: ClassVar[bool] = True

    method: Literal["mixed_bits"] = "mixed_bits"
    bits: Annotated[float, Field(gt=0, le=8)] | Literal["auto"] = Field(
        "auto", description='Mean of an entry of the matrices, at most; "auto": such that a target of bytes is met.'
    )
    choices: tuple[Choice, ...] = Field((0.0, 2.0, 4.0), min_length=2, max_length=8, description="0 is pruned.")
    blocks: int = Field(128, ge=1, le=1024, description="Groups of rows of a matrix, at most.")
    search: Literal["gumbel", "closed_form", "both"] = Field("both", description='"both": whichever loses less.')
    steps: int = Field(60, ge=1, le=100_000, description="Of the search, each of two halves of a batch.")
    batch_size: int = Field(32, ge=2, le=4096, description="Rows of a step of the search, both halves.")
    max_length: int = Field(128, ge=8, le=8192, description="Tokens per row in the search; longer rows are cut.")
    learning_rate: float = Field(5e-5, gt=0, le=1, description="Of the weights in the search.")
    choice_rate: float = Field(0.1, gt=0, le=10, description="Of the logits in the search.")
    temperature: float = Field(1.0, gt=0, le=100, description="Of the softmax at first.")
    last_temperature: float = Field(0.1, gt=0, le=100, description="The same at the end; falls by a factor a step.")
    band: float = Field(0.05, gt=0, lt=1, description="How far the expected size may be off, as a share.")
    size_weight: float = Field(10.0, ge=0, le=1e6, description="Of the penalty outside of the band.")
    lasso: float = Field(1e-5, ge=0, le=1e3, description="Of the norm of every group of weights.")
    each: dict[str, str] | None = Field(
        None, description="Of each matrix the number of the choice of each group, as digits: found before, no search."
    )
    rest_bits: Literal[8, 32] = Field(8, description="Of other matrices, vectors then being fp16; 32 leaves both.")
    group: int = Field(
        64, ge=8, le=65_536, description="Columns of a row of more than three values that share a scale."
    )
    calibration_rows: int = Field(1024, ge=1, le=100_000, description="Training rows that C and G are taken from.")
    damping: float = Field(1e-2, ge=1e-5, le=1, description="Added to C and G, in units of their mean diagonal.")

    @model_validator(mode="after")
    def _choices_rise(self) -> MixedBits:
        if list(self.choices) != sorted(set(self.choices)):
            raise ValueError(f"choices are {list(self.choices)}: they must rise, each once")
        if self.last_temperature > self.temperature:
            raise ValueError(
                f"last_temperature is {self.last_temperature:g}: at most temperature, which is {self.temperature:g}"
            )
        for name, found in (self.each or {}).items():
            if not found or any(letter not in "01234567"[: len(self.choices)] for letter in found):
                raise ValueError(
                    f"each.{name} is {found[:20]!r}: digits below {len(self.choices)}, one for each group of rows"
                )
        return self

    @property
    def searching(self) -> bool:
        """Whether the choices are still to be found."""
        return self.each is None

    @property
    def ways(self) -> tuple[Way, ...]:
        return ("closed_form", "gumbel") if self.search == "both" else (self.search,)

    @property
    def levels(self) -> tuple[int, ...]:
        """Of each choice; 0 is a row of zeros."""
        return tuple(LEVELS.get(bits, 0) for bits in self.choices)

    def acts_in_training(self) -> bool:
        return any(levels in FOLLOWING for levels in self.levels)

    def group_of(self, levels: int, columns: int) -> int:
        """Columns of a row of so many levels that share a scale."""
        return columns if levels in FOLLOWING else min(self.group, columns)

    def objection(self, before: Sequence[Method]) -> str | None:
        other = next((one for one in before if one.family() in ("factorize", "prune")), None)
        return None if other is None else f"sorts the rows of whole matrices: leave out {other.name()}"

    def rows_of(self, rows: int) -> list[int]:
        """How many rows each group of a matrix of so many has."""
        size = -(-rows // self.blocks)
        return [min(size, rows - start) for start in range(0, rows, size)]

    def counts(self, name: str, rows: int) -> dict[int, int]:
        """Levels -> rows of the matrix of a module that have so many. Where nobody has searched yet, all in the choice
        that is nearest to the mean; with bits "auto", in the least that is not 0."""
        sizes = self.rows_of(rows)
        if self.each is None:
            wanted = self.bits if self.bits != "auto" else 0.0
            some = [bits for bits in self.choices if bits]
            return {LEVELS[min(some, key=lambda one: (abs(one - wanted), one))]: rows}
        found = self.each.get(name)
        if found is None or len(found) != len(sizes):
            raise RecipeInvalid(
                f"mixed_bits.each says {0 if found is None else len(found)} choices for {name}, "
                f"which has {len(sizes)} groups of rows",
                param="/recipe/steps",
            )
        counts = dict.fromkeys(self.levels, 0)
        for letter, size in zip(found, sizes, strict=True):
            counts[self.levels[int(letter)]] += size
        return {levels: count for levels, count in counts.items() if count}

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Codes a choice for the rows that have it, where each row stands, `rest_bits` for others, fp16 for vectors."""
        found: list[Tensor] = []
        for one in tensors:
            if one.kind == "fixed":
                found.append(rest_of(one, self.rest_bits, self.group))
                continue
            for levels, rows in sorted(self.counts(one.name, one.rows).items()):
                if levels:
                    found.append(replace(one, name=f"{one.name}.{part_of(levels)}", rows=rows, kept=rows * one.cols,
                                         levels=levels, group=self.group_of(levels, one.cols)))  # fmt: skip
            bits = place_bits(one.rows)
            found.append(Tensor(f"{one.name}.row", 1, one.rows, one.rows, "fixed", bits=bits, counted=False))
        return found

    def compile(self, build: Build) -> Iterable[Phase]:
        from core.mixing import mix
        from core.rounding import round_rest

        mix(build, self)
        if self.rest_bits != 32:
            round_rest(build, lambda _: LEVELS[self.rest_bits], self.group)
        return ()
