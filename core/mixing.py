"""Groups of rows in the bits that were chosen for them, and what each choice would cost the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from core import codes
from core.allocate import Option
from core.binarize import binary
from core.grid import Grid, fit, groups_of
from core.method import part_of
from core.mixed import mix_rows
from core.phase import Build
from core.probe import Prober
from core.quantize.mixed_bits import FOLLOWING
from core.rounding import on_grid
from core.surgeon import Judged, Surgeon, inverse_root
from core.ternarize import ternary

if TYPE_CHECKING:
    from core.quantize.mixed_bits import MixedBits
    from core.searching import Searching

TINY = 1e-30
UNSEEN = 0.5  # of a token that the training text never shows: as if it had been there so often


def levels_of(step: MixedBits, name: str, rows: int) -> torch.Tensor:
    """Levels of each row of the matrix of a module, (rows,); 0 is a row of zeros."""
    if step.each is None:
        ((levels, _),) = step.counts(name, rows).items()
        return torch.full((rows,), levels)
    step.counts(name, rows)  # which refuses what does not fit
    chosen = [step.levels[int(letter)] for letter in step.each[name]]
    return torch.tensor(chosen).repeat_interleave(torch.tensor(step.rows_of(rows)))


@torch.no_grad()
def mix(build: Build, step: MixedBits) -> None:
    """Sort the rows of every compressible matrix by their bits; round those of more than three values, with error
    feedback. The others are what they were: the training puts them on values that follow it."""
    surgeon = Surgeon(build, build.moments(step.calibration_rows), step.damping, scope="tensor")
    for name in [*build.compressible()]:
        judged = judged_of(build, surgeon, name)
        levels, weight = levels_of(step, name, len(judged.weight)), torch.zeros_like(judged.weight)
        upper, grids = inverse_root(judged.hessian), dict[int, Grid]()
        for count in sorted({*levels.tolist()} - {0}):
            rows = levels == count
            if count in FOLLOWING:
                weight[rows] = judged.weight[rows]
                grids[count] = _following(weight[rows].float(), count)
            else:
                few = Judged(judged.weight[rows], judged.hessian, judged.rows[rows])
                every = torch.ones_like(few.weight, dtype=torch.bool)
                grids[count], weight[rows] = on_grid(few, every, count, step.group, upper)
        mix_rows(build.model, name, levels, weight.float())
        for count, grid in grids.items():
            build.values[f"{name}.{part_of(count)}"] = grid.to(build.device)


def judged_of(build: Build, surgeon: Surgeon, name: str) -> Judged:
    """A module's weight with its metric. Rows of the embedding count as the whole training text reads them, and a
    little where it does not: to be free to lose a word it takes more than some rows without it."""
    judged = surgeon.judged_in(name)["weight"]
    if name != build.family.embedding:
        return judged
    row = getattr(build.model.get_submodule(name), "row", None)
    row = torch.arange(len(judged.weight)) if row is None else row.cpu().long()
    counts = torch.full_like(judged.rows, UNSEEN).index_add(0, row, build.shared.train.counts(len(row)).double())
    return replace(judged, rows=counts / counts.sum() * judged.rows.sum())


@torch.no_grad()
def options(build: Build, step: Searching, probe: Prober, *, scales: bool) -> dict[str, list[Option[int]]]:
    """What each choice costs and loses, by "module/group": the layer errors of rounding to nearest, in units of the
    distillation loss that one rounding of the whole matrix was seen to cost.

    Args:
        scales: whether bytes count the scales beside the codes.
    """
    surgeon = Surgeon(build, build.moments(step.calibration_rows), step.damping, scope="tensor")
    found: dict[str, list[Option[int]]] = {}
    for name in build.compressible():
        judged = judged_of(build, surgeon, name)
        errors, rounded = _errors(judged, step)
        place = max(1, len(step.choices) // 2)
        scale = probe({f"{name}.weight": rounded[place]}) / max(float(errors[place].sum()), TINY)
        start = 0
        for group, rows in enumerate(step.rows_of(len(judged.weight))):
            found[f"{name}/{group}"] = [
                Option(choice, code_bytes(step, choice, rows, judged.weight.shape[1], scales=scales),
                       scale * float(errors[choice][start : start + rows].sum()))
                for choice in range(len(step.choices))
            ]  # fmt: skip
            start += rows
    return found


def code_bytes(step: Searching, choice: int, rows: int, columns: int, *, scales: bool) -> float:
    """Bytes of so many rows in a choice, parts of a byte counted."""
    levels = step.levels[choice]
    if not levels:
        return 0.0
    groups = groups_of(columns, step.group_of(levels, columns)) if scales else 0
    return rows * (columns * codes.bits(levels) / 8 + groups)


def grids_of(judged: Judged, step: Searching) -> list[Grid | None]:
    """A grid for the whole matrix in each choice; none where it is zero."""
    importance = (judged.hessian.diagonal() * judged.rows[:, None]).float()
    weight = judged.weight.float()
    found: list[Grid | None] = []
    for levels in step.levels:
        if levels in FOLLOWING:
            found.append(_following(weight, levels))
        else:
            group = step.group_of(levels, weight.shape[1])
            found.append(fit(weight, importance, None, levels, group) if levels else None)
    return found


def _following(weight: torch.Tensor, levels: int) -> Grid:
    """The values that rows of two or three begin with, as `binary` and `ternary` have them."""
    if levels == min(FOLLOWING):
        return binary(weight, shared=False)
    return ternary(weight, "exact", shared=False, loss_aware=True)


def _errors(judged: Judged, step: Searching) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Of each choice the layer error of every row, and the rounded weight."""
    errors, rounded = [], []
    for grid in grids_of(judged, step):
        weight = torch.zeros_like(judged.weight) if grid is None else grid.quick(judged.weight.float()).double()
        away = weight - judged.weight
        errors.append(judged.rows * ((away @ judged.hessian) * away).sum(dim=1))
        rounded.append(weight.float())
    return errors, rounded


def each_of(chosen: Mapping[str, Option[int]]) -> dict[str, str]:
    """Choices by "module/group", the groups of a module in rising order, as `MixedBits.each` has them."""
    found: dict[str, str] = {}
    for place, option in chosen.items():
        name = place.rpartition("/")[0]
        found[name] = found.get(name, "") + str(option.what)
    return found
