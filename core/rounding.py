"""Putting a student's weights on grids, and training them there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from core.calibrate import Moments
from core.grid import Grid, Half, fit, whole
from core.mixed import MixedEmbedding
from core.moving import Moving
from core.phase import Build, Hook, Phase
from core.surgeon import Judged, Surgeon, inverse_root, sweep
from core.surgery import LowRankEmbedding, SumEmbedding, round_inputs, rows_of


@torch.no_grad()
def put_on_grids(
    build: Build, levels: Mapping[str, int], group: int, moments: Mapping[str, Moments], damping: float
) -> None:
    """Round every compressible module, in model order, each judged through neighbours that are rounded already.

    Args:
        levels: module name -> number of levels.
        group: columns of a row that share a scale.
    """
    surgeon = Surgeon(build, moments, damping, scope="tensor")
    for module, count in levels.items():
        for part in surgeon.judged_in(module):
            name = f"{module}.{part}"
            judged, mask = surgeon.judged_in(module)[part], build.masks.get(name)  # as it is after the part before
            held = torch.ones_like(judged.weight, dtype=torch.bool) if mask is None else mask.cpu()
            grid, rounded = on_grid(judged, held, count, group)
            parameter = build.model.get_parameter(name)
            parameter.copy_(rounded.to(parameter))
            build.values[name] = grid.to(parameter.device)


def on_grid(
    judged: Judged, mask: torch.Tensor, levels: int, group: int, upper: torch.Tensor | None = None
) -> tuple[Grid, torch.Tensor]:
    """A grid for one matrix and its rounded weight (rows, columns): by the sweep, or to the nearest if that is better.

    Args:
        mask: of the same shape; False entries are zero before and after.
        upper: `inverse_root` of the Hessian, where it is known already.
    """
    importance = judged.hessian.diagonal() * judged.rows[:, None]
    grid = fit(judged.weight.float(), importance.float(), mask, levels, group)
    upper = inverse_root(judged.hessian) if upper is None else upper
    nearest = grid.round(judged.weight.float()).double() * mask
    swept = sweep(judged.weight, upper, mask, grid)
    return grid, min(nearest, swept, key=judged.error)


@torch.no_grad()
def put_on_int8(build: Build, but: Collection[str] = ()) -> None:
    """Round every linear but those named to int8, to the nearest, and have it take inputs of 8 bits."""
    for module in build.compressible():
        if module == build.family.embedding or module in but:
            continue
        round_inputs(build.model, module)
        for part, parameter in build.model.get_submodule(module).named_parameters(recurse=False):
            if parameter.dim() == 2:
                grid = whole(parameter.cpu()).to(parameter.device)
                parameter.copy_(grid.round(parameter))
                build.values[f"{module}.{part}"] = grid


@torch.no_grad()
def round_rest(build: Build, levels: Callable[[str], int], group: int) -> None:
    """Put every other matrix on a grid, weighed evenly, and every other vector on fp16 numbers.

    Args:
        levels: of a parameter, by its name.
    """
    for name, parameter in build.model.named_parameters():
        if name in build.values:
            continue
        if parameter.dim() == 2 and len(parameter) > 1:  # one row is a vector, as the plan counts it
            grid = fit(parameter.cpu(), torch.ones(1), None, levels(name), group)
            build.values[name] = grid.to(parameter.device)
        else:
            build.values[name] = Half()
        parameter.copy_(build.values[name].round(parameter))


@torch.no_grad()
def settle(build: Build) -> None:
    """Put every parameter that has a grid on it; one that is there already stays as it is, to the bit."""
    for name, values in build.values.items():
        _put(build, name, values.quick(build.model.get_parameter(name)))


def values_of_weights(build: Build) -> None:
    """Values that moved in a training, as they were when these weights were put on them."""
    stay = tables(build)
    for name, values in build.values.items():
        if isinstance(values, Moving) and name not in stay:
            build.values[name] = values.like(build.model.get_parameter(name).detach())


def _put(build: Build, name: str, rounded: torch.Tensor) -> None:
    parameter = build.model.get_parameter(name)
    if name in build.masks:  # a grid need not hold zero
        rounded = rounded * build.masks[name]
    parameter.copy_(rounded)


class StraightThrough(Hook):
    """Weights are on their grids whenever the model reads them; while they are moved they are what is being trained.

    The gradient at the rounded weight moves the one beside it (Bengio et al. 2013, arXiv 1308.3432), which is rounded
    again after each step. Of tables that are looked up only the rows that a batch asks for are rounded, when it does:
    a step of a small model would else spend most of its time on words that are not in it.
    """

    def __init__(self, build: Build) -> None:
        self.build = build
        self.latent: dict[str, torch.Tensor] = {}
        self._tables = tables(build)
        self._handles: list[RemovableHandle] = []
        self._optimizers: Sequence[torch.optim.Optimizer] = ()

    def start(self, phase: Phase) -> None:
        self.latent = {name: parameter.detach().clone() for name, parameter in self._parameters()}
        settle(self.build)  # whoever leaves the values to the training put nothing on them yet
        self._optimizers = phase.optimizers
        self._handles = [
            module.register_forward_pre_hook(partial(self._round_rows, name)) for name, module in self._tables.items()
        ]

    @torch.no_grad()
    def before_update(self) -> None:
        for name, parameter in self._parameters():
            parameter.copy_(self.latent[name])

    @torch.no_grad()
    def after_step(self, fraction: float) -> None:
        for name, parameter in self._parameters():
            if name in self.build.masks:
                parameter.mul_(self.build.masks[name])
            self.latent[name].copy_(parameter)
            if name not in self._tables:
                self._refit(name, parameter)
                _put(self.build, name, self.build.values[name].quick(parameter))

    def _refit(self, name: str, parameter: nn.Parameter) -> None:
        """Values that move with what is trained."""
        values = self.build.values[name]
        if isinstance(values, Moving):
            importance = self._importance(parameter) if values.loss_aware else None
            self.build.values[name] = values.refit(parameter, importance)

    def _importance(self, parameter: nn.Parameter) -> torch.Tensor | None:
        """The root of Adam's second moment of each entry."""
        held = (optimizer.state.get(parameter, {}).get("exp_avg_sq") for optimizer in self._optimizers)
        found = next((moment for moment in held if moment is not None), None)
        return None if found is None else found.sqrt()

    def end(self) -> None:
        for handle in self._handles:
            handle.remove()
        moving = [name for name, values in self.build.values.items() if isinstance(values, Moving)]
        self.build.latent = {name: self.latent[name] for name in moving}
        settle(self.build)

    def tensors(self) -> dict[str, torch.Tensor]:
        return self.latent

    def load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        self.latent = {name: tensor.to(self.build.device) for name, tensor in tensors.items()}

    def _parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, self.build.model.get_parameter(name)) for name in self.build.values]

    @torch.no_grad()
    def _round_rows(self, name: str, module: nn.Module, asked: tuple[torch.Tensor, ...]) -> None:
        rows = _rows_of(module, name.rpartition(".")[2], asked[0]).unique()  # type: ignore[no-untyped-call]
        values = self.build.values[name]
        rounded = (values.rows(rows) if isinstance(values, Grid) else values).quick(self.latent[name][rows])
        if name in self.build.masks:
            rounded = rounded * self.build.masks[name][rows]
        self.build.model.get_parameter(name)[rows] = rounded


def tables(build: Build) -> dict[str, nn.Module]:
    """Parameters on values of which single rows are read, and their modules."""
    return {
        f"{path}.{part}": module
        for path, module in build.model.named_modules()
        for part in _looked_up(module)
        if f"{path}.{part}" in build.values
    }


def _looked_up(module: nn.Module) -> tuple[str, ...]:
    """Parameters of a module of which it reads single rows, by number."""
    if isinstance(module, nn.Embedding):
        return ("weight",)
    if isinstance(module, SumEmbedding):
        return ("first", "second")
    if isinstance(module, MixedEmbedding):
        return tuple(part for part, _ in module.named_parameters())
    return ("left", "sparse") if isinstance(module, LowRankEmbedding) else ()


def _rows_of(module: nn.Module, part: str, ids: torch.Tensor) -> torch.Tensor:
    """Numbers of the rows of that part which an embedding reads for these tokens."""
    return module.within(part, ids) if isinstance(module, MixedEmbedding) else rows_of(module, ids)
