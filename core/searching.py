"""What a search in the job may find of a step, and what it needs of the request (`core.assign` makes it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from core.errors import RecipeInvalid

if TYPE_CHECKING:
    from core.recipe import Recipe

Way = Literal["gumbel", "closed_form"]  # how choices of bits are found (`core.assign`)


class Searching(Protocol):
    """What of a step a search reads (`core.assign`). levels: of each choice, 0 is a row of zeros; rows of a matrix go
    together in groups of `rows_of`. group_of: columns that share a scale of a row of so many levels."""

    @property
    def choices(self) -> tuple[float, ...]: ...
    @property
    def levels(self) -> tuple[int, ...]: ...
    @property
    def ways(self) -> tuple[Way, ...]: ...
    @property
    def calibration_rows(self) -> int: ...
    @property
    def damping(self) -> float: ...
    def rows_of(self, rows: int) -> list[int]: ...
    def group_of(self, levels: int, columns: int) -> int: ...


def check_searched(recipe: Recipe, sizes: Mapping[str, float], spent: Sequence[str]) -> None:
    """Whether bytes, or a mean of bits, are all that is left to decide; a search in the job decides what for."""
    index, step = next((place, one) for place, one in enumerate(recipe.steps) if one.searching)
    at = f"/recipe/steps/{index}"
    if other := next((one for one in recipe.steps if one.is_open), None):
        raise RecipeInvalid(
            f'steps[{index}] ({step.name()}) searches, and {other.name()} has keep "auto": give it a number', param=at
        )
    auto = "bits" if hasattr(step, "bits") else "matrices"
    is_auto = getattr(step, auto) == "auto"
    if is_auto and not set(sizes) & set(spent):
        raise RecipeInvalid(
            f'steps[{index}].{auto} is "auto": give one of the targets {", ".join(spent)}', param="/target"
        )
    left = set(sizes) - set(spent) if is_auto else set(sizes)
    if left:
        raise RecipeInvalid(
            f'steps[{index}] ({step.name()}) spends {" or ".join(spent)} where its bits are "auto", and nothing else: '
            f"leave {min(left)} out of the target",
            param=f"/target/{min(left)}",
        )
