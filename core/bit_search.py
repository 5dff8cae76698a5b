"""AQ-BERT's search: a softmax over choices of bits for every group of rows, trained beside the weights.

The model reads sum_b p_b Q_b(w) in the place of every weight w. From the gradient g at that place both levels follow
without a second graph: that of w is g (1 - p_0), for gradients pass straight through what rounds (Bengio et al. 2013,
arXiv 1308.3432) and nothing passes a choice of no bits; that of p_b is the sum of g Q_b(w) over the group. The lower
level (w, on one half of a batch) and the upper (logits, on the other half) step at the same place, which is the first
order form of DARTS (Liu et al. 2019, arXiv 1806.09055, equation 8).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from core.batches import Batch, Batches
from core.distill.distill import Distill
from core.grid import Grid
from core.losses import Distillation
from core.mixing import code_bytes, grids_of, judged_of
from core.parts import parts_for, trimmed
from core.phase import Backward, Build, Hook, Metrics, Phase
from core.progress import Meter, Silent
from core.surgeon import Surgeon
from core.surgery import rows_of
from core.train import train

if TYPE_CHECKING:
    from core.quantize.mixed_bits import MixedBits

FOLLOWED = Distill()  # the loss of both levels is what a training would follow that says nothing else


class Relaxed:
    """One weight (rows, columns) in a mixture of choices.

    logits: (groups, choices). bytes: of the same shape. table: the module that reads single rows of it, or None.
    """

    def __init__(
        self,
        parameter: nn.Parameter,
        table: nn.Module | None,
        grids: Sequence[Grid | None],
        sizes: Sequence[int],
        costs: torch.Tensor,
    ) -> None:
        here = parameter.device
        self.parameter, self.table, self.bytes = parameter, table, costs.to(here)
        self.grids = [None if grid is None else grid.to(here) for grid in grids]
        self.latent = parameter.detach().clone()
        self.group = torch.arange(len(sizes), device=here).repeat_interleave(torch.tensor(sizes, device=here))
        self.logits = nn.Parameter(torch.zeros_like(self.bytes))
        self.shares = self.logits.softmax(dim=1)
        self._rounded: list[torch.Tensor | None] = []

    def draw(self, temperature: float, generator: torch.Generator) -> None:
        """Other shares: softmax((logits + Gumbel noise) / temperature)."""
        uniform = torch.rand(self.logits.shape, generator=generator).clamp(1e-9, 1 - 1e-9).to(self.logits)
        with torch.enable_grad():  # wherever it is called
            self.shares = ((self.logits - (-uniform.log()).log()) / temperature).softmax(dim=1)

    def size(self) -> torch.Tensor:
        """Expected bytes: of the choices that a draw is nearest to, the softmax of the logits is the chance."""
        return (self.logits.softmax(dim=1) * self.bytes).sum()

    @torch.no_grad()
    def put(self) -> None:
        """The mixture in the place of the weight; of a table the rows are put when they are read."""
        if self.table is None:
            self._rounded = self._round(None)
            self.parameter.copy_(self._mixed(self._rounded, self.group))

    @torch.no_grad()
    def put_rows(self, table: nn.Module, asked: tuple[torch.Tensor, ...]) -> None:
        """The same of the rows of a table that a batch reads."""
        rows = rows_of(table, asked[0]).unique()  # type: ignore[no-untyped-call]
        self.parameter[rows] = self._mixed(self._round(rows), self.group[rows])

    @torch.no_grad()
    def worth(self) -> torch.Tensor:
        """Gradient of the shares, (groups, choices), from that of the mixture."""
        gradient = self.parameter.grad
        found = torch.zeros_like(self.bytes)
        if gradient is None:
            return found
        group, rounded = self.group, self._rounded
        if self.table is not None:
            rows = gradient.any(dim=1).nonzero()[:, 0]
            gradient, group, rounded = gradient[rows], group[rows], self._round(rows)
        for choice, weight in enumerate(rounded):
            if weight is not None:
                found[:, choice].index_add_(0, group, (gradient * weight).sum(dim=1))
        return found

    @torch.no_grad()
    def passed(self, gradient: torch.Tensor, lasso: float) -> torch.Tensor:
        """Gradient of the weight, from that of the mixture; and the slope of lasso x the norm of its group."""
        through = sum((self.shares[:, choice] for choice, grid in enumerate(self.grids) if grid is not None),
                      torch.zeros(len(self.bytes), device=gradient.device))  # fmt: skip
        norms = torch.zeros_like(through).index_add_(0, self.group, self.latent.square().sum(dim=1)).sqrt()
        slope = lasso / norms.clamp(min=1e-12)
        return gradient * through[self.group][:, None] + slope[self.group][:, None] * self.latent

    def _round(self, rows: torch.Tensor | None) -> list[torch.Tensor | None]:
        """In each choice; None is zero."""
        if rows is None:
            return [None if grid is None else grid.quick(self.latent) for grid in self.grids]
        return [None if grid is None else grid.rows(rows).quick(self.latent[rows]) for grid in self.grids]

    def _mixed(self, rounded: Sequence[torch.Tensor | None], group: torch.Tensor) -> torch.Tensor:
        each = [self.shares[group, choice, None] * weight
                for choice, weight in enumerate(rounded) if weight is not None]  # fmt: skip
        return torch.stack(each).sum(dim=0)


class TwoLevels:
    """Objective: weights on the rows of even number, logits on the others.

    Args:
        wanted: bytes that all groups are to take together.
    """

    def __init__(self, judged: Distillation, relaxed: Sequence[Relaxed], step: MixedBits, wanted: float) -> None:
        self.judged, self.relaxed, self.step_of, self.wanted = judged, relaxed, step, wanted

    def step(self, batch: Batch, backward: Backward) -> Metrics:
        even = batch["rows"] % 2 == 0
        lower = self._half(batch, even, backward)
        of_weights = {parameter: parameter.grad for parameter in self._parameters()}
        for one in self.relaxed:
            if (gradient := of_weights.get(one.parameter)) is not None:
                of_weights[one.parameter] = one.passed(gradient, self.step_of.lasso)
        for parameter in of_weights:
            parameter.grad = None
        upper = self._half(batch, ~even, backward)
        total = sum((one.size() for one in self.relaxed), torch.zeros(()))
        felt = sum(((one.shares * one.worth()).sum() for one in self.relaxed), torch.zeros(()))
        backward(felt + self.penalty(total) * self.step_of.size_weight)
        for parameter, gradient in of_weights.items():
            parameter.grad = gradient
        return {**lower, **{f"upper_{name}": value for name, value in upper.items()},
                "size": float(total.detach()) / self.wanted}  # fmt: skip

    def penalty(self, total: torch.Tensor) -> torch.Tensor:
        """|log(expected size / wanted)| outside of the band, 0 in it."""
        away = (total / self.wanted).log()
        inside = abs(float(away.detach())) <= math.log1p(self.step_of.band)
        return 0 * away if inside else away.abs()

    def halve(self) -> int | None:
        return self.judged.halve()

    def _half(self, batch: Batch, chosen: torch.Tensor, backward: Backward) -> Metrics:
        rows = chosen.nonzero()[:, 0]
        return dict(self.judged.step(trimmed(batch, rows), backward)) if len(rows) else {}

    def _parameters(self) -> list[nn.Parameter]:
        return list(self.judged.student.parameters())


class Relaxing(Hook):
    """Mixtures are in the model whenever it reads its weights; the weights themselves are what moves."""

    def __init__(self, relaxed: Sequence[Relaxed], step: MixedBits, seed: int) -> None:
        self.relaxed, self.temperatures = relaxed, (step.temperature, step.last_temperature)
        self.generator = torch.Generator().manual_seed(seed)
        self._handles: list[RemovableHandle] = []

    def start(self, _phase: Phase) -> None:
        self._handles = [
            one.table.register_forward_pre_hook(one.put_rows) for one in self.relaxed if one.table is not None
        ]
        self._draw(0.0)

    @torch.no_grad()
    def before_update(self) -> None:
        for one in self.relaxed:
            one.parameter.copy_(one.latent)

    @torch.no_grad()
    def after_step(self, fraction: float) -> None:
        for one in self.relaxed:
            one.latent.copy_(one.parameter)
        self._draw(fraction)

    def end(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _draw(self, fraction: float) -> None:
        first, last = self.temperatures
        for one in self.relaxed:
            one.draw(first * (last / first) ** fraction, self.generator)
            one.put()


def searched(build: Build, step: MixedBits, wanted: float, *, scales: bool) -> tuple[dict[str, list[float]], float]:
    """Logits of the choices by "module/group", and the expected size at the end over the wanted one.

    Args:
        build: a student that nobody needs afterwards.
        wanted: bytes that all groups may take together, scales counted where `scales`.
    """
    relaxed = _relaxed(build, step, wanted, scales=scales)
    shared = build.shared
    rows = shared.text(None, step.max_length)
    parts, _ = parts_for(build, rows, step.batch_size, maps=False)
    judged = Distillation(
        build.model,
        build.teacher,
        build.family,
        weights={name: getattr(FOLLOWED, name) for name in ("logits", "hidden", "attention")},
        temperature=FOLLOWED.temperature,
        layer_map=FOLLOWED.layer_map,
        relative=FOLLOWED.relative,
        recorded=shared.recorded(rows),
        likelihood=shared.likelihood,
        parts=parts,
    )
    objective = TwoLevels(judged, [*relaxed.values()], step, wanted)
    logits = [one.logits for one in relaxed.values()]
    phase = Phase(
        name="bit_search",
        model=build.model,
        objective=objective,
        optimizers=(
            torch.optim.AdamW(build.model.parameters(), lr=step.learning_rate),
            torch.optim.Adam(logits, lr=step.choice_rate),
        ),
        batches=Batches(rows, step.batch_size, seed=build.seed, device=build.device),
        steps=step.steps,
        schedule=lambda _: 1.0,
        hooks=(Relaxing([*relaxed.values()], step, build.seed),),
    )
    train(phase, Meter(Silent()), device=build.device)
    total = sum(float(one.size().detach()) for one in relaxed.values())
    found = {
        f"{name}/{group}": [float(value) for value in row]
        for name, one in relaxed.items()
        for group, row in enumerate(one.logits.detach().cpu())
    }
    return found, total / wanted


def _relaxed(build: Build, step: MixedBits, wanted: float, *, scales: bool) -> dict[str, Relaxed]:
    """Every compressible weight, by module; at first its choices are such that the expected size is the wanted one."""
    surgeon = Surgeon(build, build.moments(step.calibration_rows), step.damping, scope="tensor")
    found = {}
    for name in build.compressible():
        judged, module = judged_of(build, surgeon, name), build.model.get_submodule(name)
        rows, columns = judged.weight.shape
        sizes = step.rows_of(rows)
        costs = [[code_bytes(step, choice, count, columns, scales=scales) for choice in range(len(step.choices))]
                 for count in sizes]  # fmt: skip
        table = module if isinstance(module, nn.Embedding) else None
        parameter = module.get_parameter("weight")
        found[name] = Relaxed(parameter, table, grids_of(judged, step), sizes, torch.tensor(costs))
    leaning = _leaning(found, step, wanted)
    for one in found.values():
        with torch.no_grad():
            one.logits.copy_(leaning.expand_as(one.logits))
    return found


def _leaning(relaxed: Mapping[str, Relaxed], step: MixedBits, wanted: float) -> torch.Tensor:
    """Logits that fall with the bits (or rise), alike for all groups, at which the expected size is the wanted one."""
    bits = torch.tensor(step.choices)

    def size(slope: float) -> float:
        shares = (slope * bits).softmax(dim=0)
        return sum(float((one.bytes.cpu() * shares).sum()) for one in relaxed.values())

    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) < wanted else (low, middle)
    return low * bits
