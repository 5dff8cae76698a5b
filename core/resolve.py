"""What a recipe leaves to the job: the profile is measured, as far as the recipe asks for it, and the plan is made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from core.assign import assign
from core.cost import Spent, training_of
from core.costing import costs, spent
from core.factorize.weighted_svd import WeightedSvd
from core.hasten import Planned
from core.measure.latency_table import latency_table, machine, timed
from core.phase import Build
from core.plan import ModelShape
from core.probe import Loss, Prober
from core.profile import Profile
from core.promise import Judge
from core.quantize.gptq import Gptq
from core.quantize.int8 import Int8
from core.recipe import Recipe, Target
from core.sensitivity import curves, embedding_curve
from core.shared import Shared
from core.spend import question, spend
from core.structure.structured import Structured
from core.unit_curves import rounded, unit_curves


@dataclass
class Profiler:
    """Measures what recipes of one job ask for, each thing once, and plans on it.

    Args:
        teacher: its model.onnx, where milliseconds may be asked for.
        judge: where plans are to say what a student retains.
        known: a profile of the same model, text and steps (`Recipe.profiled`), measured before.
    """

    shared: Shared
    shape: ModelShape
    teacher: Path | None = None
    known: Profile = field(default_factory=Profile)
    judge: Judge | None = None
    _probe: Prober | None = field(default=None, init=False)

    def plan(self, asked: Sequence[tuple[Recipe, Target]]) -> list[Planned]:
        """Every recipe as `resolve` gives it for its target."""
        for recipe, target in asked:
            self.measure(recipe, target)
        return [self.resolve(recipe, target) for recipe, target in asked]

    def measure(self, recipe: Recipe, target: Target) -> Profile:
        """What is known now; at least all that `recipe` decides for `target` by."""
        measuring = spent(self.shared.device, lambda: self._measure(recipe, target))
        if self._probe is not None and self.known.kl_per_loss is None:
            self._learn(kl_per_loss=self._probe.loss.kl_per_loss())
        if recipe.open_for(target):
            if self.judge is not None and not self.known.nears:
                self._learn(nears=self.judge.nears())
            self._cost(recipe, measuring)
        return self.known

    def _cost(self, recipe: Recipe, measuring: Spent) -> None:
        """Time steps of such a training, where nobody has on this machine."""
        name = f"{machine(threads=torch.get_num_threads())}; {self.shared.device}"
        training = training_of(recipe)
        known = self.known.costs
        if training is None or (known is not None and (known.machine, known.training) == (name, training.timed)):
            return
        found = costs(self.shared, training, machine=name)
        self._learn(costs=found.model_copy(update={"profile": measuring if known is None else known.profile}))

    def _student(self, recipe: Recipe) -> Build:
        """What the plan's curves are of: the teacher, after steps that nothing is to be planned for."""
        build = self.shared.student()
        for step in recipe.steps:
            if step.profiled_after:
                list(step.compile(build))
        return build

    def _measure(self, recipe: Recipe, target: Target) -> None:
        bits, units = recipe.spender, recipe.narrower
        factors = next((step for step in recipe.steps if isinstance(step, WeightedSvd)), None)
        if isinstance(bits, Gptq) and not self.known.curves:
            self._learn(curves=curves(self._student(recipe), factors, bits, self._prober(recipe)))
        if not (isinstance(units, Structured) and recipe.is_paced(target)):
            return
        if not self.known.units:
            self._learn(units=unit_curves(self.shared, units, self._prober(recipe)))
        int8 = next((step for step in recipe.steps if isinstance(step, Int8)), None)
        if int8 is not None and self.known.int8 is None:
            self._learn(int8=rounded(self.shared, self._prober(recipe).loss))
        if int8 is not None and int8.embedding_bits == "auto" and not self.known.curves:
            asked = int8.group, int8.calibration_rows, int8.damping
            self._learn(curves=(embedding_curve(self._student(recipe), *asked, self._prober(recipe)),))
        table = self.known.latency
        if self.teacher is not None and (table is None or table.machine != machine()):
            self._learn(latency=latency_table(self.teacher, self.shape), timed={})

    def resolve(self, recipe: Recipe, target: Target, most_loss: float | None = None) -> Planned:
        """The recipe with no "auto" left, on what is known. Planned widths are timed, and planned anew where they take
        longer than the table says.

        Args:
            most_loss: see `core.spend.spend`.

        Raises:
            TargetImpossible: see `core.spend.spend`.
        """
        if not recipe.open_for(target):
            return Planned(recipe)
        if recipe.searcher is not None and (asked := question(recipe, target, self.shape)) not in self.known.assigned:
            found = assign(recipe, target, self.shape, self.shared)
            self._learn(assigned={**self.known.assigned, asked: found})
        return spend(recipe, target, self.shape, self.known, self._ms, most_loss)

    def _ms(self, widths: str) -> float | None:
        """Of the teacher's graph in these widths, timed once: a second attempt plans as the first."""
        if widths not in self.known.timed and self.teacher is not None:
            products, each = json.loads(widths)
            _, (share,) = timed(self.teacher, self.shape, [(products, each)])
            self._learn(timed={**self.known.timed, widths: share})
        return self.known.ms_of(widths)

    def _learn(self, **found: object) -> None:
        self.known = self.known.model_copy(update=found)

    def _prober(self, recipe: Recipe) -> Prober:
        """The same for all recipes of a job, which differ in no step that is not planned."""
        if self._probe is None:
            model, loss = self._student(recipe).model.eval().requires_grad_(False), Loss(self.shared)
            changed = any(step.profiled_after for step in recipe.steps)
            self._probe = Prober(model, loss, loss.of(model) if changed else 0.0)
        return self._probe
