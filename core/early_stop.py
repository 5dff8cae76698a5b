"""Keep the weights that followed the teacher best on `select`; stop when no better come, or they are near enough."""

from __future__ import annotations

from typing import Any

import torch

from core.phase import Build, Hook, Metrics, Phase
from core.rounding import settle, values_of_weights


class BestOnSelect(Hook):
    """Looks at the student `1 / every` times a phase, from when every other hook has settled; after Held in the order.

    Better is a lower KL(teacher || student) of the logits on `select`, mean over rows. The last weights are looked at
    too, so the phase ends with the best of all that were seen.

    Args:
        every: share of the phase between two looks.
        patience: looks without a gain after which the phase ends; 0 is any number.
        enough: KL at which it ends. Where that is so at the start, no step is made: what rounding to 8 bits costs is
            below what a training of any length can find again.
    """

    def __init__(self, build: Build, *, every: float, patience: int, enough: float = 0.0) -> None:
        self.build, self.every, self.patience, self.enough = build, every, patience, enough
        self.others: list[Hook] = []
        self.best: dict[str, torch.Tensor] = {}
        self.kl, self.next, self.worse = float("inf"), 0.0, 0
        self.seen: Metrics = {}

    def start(self, phase: Phase) -> None:
        self.others = [hook for hook in phase.hooks if hook is not self]
        if self.enough and all(hook.settled() for hook in self.others):
            self._look()

    def after_step(self, fraction: float) -> None:
        if fraction < self.next or not all(hook.settled() for hook in self.others):
            return
        self.next = fraction + self.every
        self._look()

    def noted(self) -> Metrics:
        seen, self.seen = self.seen, {}
        return seen

    def finished(self) -> bool:
        return 0 < self.patience <= self.worse or (bool(self.best) and self.kl <= self.enough)

    def end(self) -> None:
        if self.best:
            self._look()
            self.build.model.load_state_dict(self.best)
            values_of_weights(self.build)
            settle(self.build)  # rows of a table that nobody asked for were kept as they were being trained
            self.best = {}

    def state_dict(self) -> dict[str, Any]:
        return {"kl": self.kl if self.best else None, "next": self.next, "worse": self.worse}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kl = float("inf") if state["kl"] is None else state["kl"]
        self.next, self.worse = state["next"], state["worse"]

    def tensors(self) -> dict[str, torch.Tensor]:
        return self.best

    def load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        self.best = tensors

    def _look(self) -> None:
        shared, model = self.build.shared, self.build.model
        if shared.select is None:
            return
        training = model.training
        model.eval()
        logits = shared.on_select(model)
        model.train(training)
        kl = shared.answers.divergence(logits, shared.followed())
        self.seen = {"select_kl": kl}
        if kl < self.kl:
            self.kl, self.worse = kl, 0
            self.best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        else:
            self.worse += 1
