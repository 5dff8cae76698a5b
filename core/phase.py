"""What a recipe compiles to: phases. The training loop (`core/train.py`) knows only these.

A phase is a model, an objective whose `step` may run several forwards and backwards, optimizers, a schedule and
hooks. Several sub-networks a step (DynaBERT), two optimizers on two splits (AQ-BERT), parameters that change shape
(ROSITA), a model that changes between phases (BinaryBERT) all fit without an `if` in the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

    from core.calibrate import Moments
    from core.family import Family
    from core.grid import Values
    from core.shared import Shared

Metrics = dict[str, float]
Backward = Callable[..., None]  # backward(loss, inputs=...): accumulates gradients, scaled where precision needs it


class Objective(Protocol):
    """What one training step does with one batch."""

    def step(self, batch: Any, backward: Backward) -> Metrics:
        """Run the forwards, call `backward` once or more, return what to log. The loop then steps the optimizers."""
        ...

    def halve(self) -> int | None:
        """Memory ran out in `step`: from now on take fewer tokens together. How many; None where it can be no fewer."""
        ...


class Hook:
    """Acts during a phase. `fraction` runs from 0 to 1 over the phase, by steps or by the time budget."""

    def start(self, phase: Phase) -> None:
        """Before the first step."""

    def before_step(self, fraction: float) -> bool:
        """Before each step. True when this hook changed shapes: its `reshape` then runs for every optimizer."""
        return False

    def reshape(self, optimizer: torch.optim.Optimizer) -> None:
        """Carry the optimizer's state over a change of shape."""

    def before_update(self) -> None:
        """Between backward and the optimizers' steps."""

    def after_step(self, fraction: float) -> None:
        """After the optimizers have moved: masks are re-applied here."""

    def settled(self) -> bool:
        """Whether what this hook makes of the model's structure has its final form."""
        return True

    def noted(self) -> Metrics:
        """Figures that are new since it was asked last."""
        return {}

    def finished(self) -> bool:
        """True ends the phase: more steps would gain nothing."""
        return False

    def end(self) -> None:
        """After the last step, also when a budget ended the phase early."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold of this hook beside weights and masks, as JSON."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The same, put back after `start`."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors that a checkpoint must hold beside those of the model."""
        return {}

    def load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """The same, put back after `load_state_dict`."""


def linear_decay(warmup: float) -> Callable[[float], float]:
    """Learning-rate factor over a phase's fraction: linear warm-up, then linear decay to zero."""

    def factor(fraction: float) -> float:
        if fraction < warmup:
            return fraction / warmup
        return (1.0 - fraction) / max(1.0 - warmup, 1e-9)

    return factor


@dataclass
class Phase:
    """One stretch of training.

    `batches` yields whatever the objective takes; it is read again from the start when it ends before `steps`.
    `schedule` maps the fraction of the phase to a factor on each optimizer's learning rate. `form` names whatever
    decides the numbers and may differ when the same recipe is compiled again: a checkpoint goes on only in its own.
    `told`: warnings, code and sentence, for whoever reads the report.
    """

    name: str
    model: nn.Module
    objective: Objective
    optimizers: Sequence[torch.optim.Optimizer]
    batches: Iterable[Any]
    steps: int
    schedule: Callable[[float], float]
    hooks: Sequence[Hook] = ()
    clip_norm: float | None = 1.0
    form: str = ""
    told: Sequence[tuple[str, str]] = ()


@dataclass
class Build:
    """What methods read and change while a recipe is compiled, step by step.

    `masks` maps a parameter's name to a boolean tensor of its shape: False entries are zero and are not stored.
    `values` maps a parameter's name to what its entries may be, where they are stored in fewer bits.
    `left` maps a linear's name to the (rows, columns) of it that are left, where a structure step removed some.
    `latent` maps a parameter's name to what was trained beside its values, where these moved with it.
    `continued`: it began as a student that was trained before, not as the teacher.
    `previous`: the student of the last training, where a later one follows it.
    """

    model: nn.Module
    shared: Shared
    hooks: list[Hook] = field(default_factory=list)
    masks: dict[str, torch.Tensor] = field(default_factory=dict)
    values: dict[str, Values] = field(default_factory=dict)
    left: dict[str, tuple[torch.Tensor | None, torch.Tensor | None]] = field(default_factory=dict)
    latent: dict[str, torch.Tensor] = field(default_factory=dict)
    continued: bool = False
    previous: nn.Module | None = None

    @property
    def teacher(self) -> nn.Module:
        return self.shared.teacher

    @property
    def family(self) -> Family:
        return self.shared.family

    @property
    def seed(self) -> int:
        return self.shared.seed

    @property
    def device(self) -> torch.device:
        return self.shared.device

    def compressible(self) -> Iterator[str]:
        """Module names of the word embedding and of every encoder linear, in model order."""
        return self.family.compressible(self.model)

    def moments(self, rows: int) -> dict[str, Moments]:
        """`Shared.moments` of what is left of each layer."""
        found = self.shared.moments(rows)
        names = [name for name in found if name in {*self.compressible()}]
        return {name: found[name].of(*self.left.get(name, (None, None))) for name in names}

    def weight(self, name: str) -> torch.Tensor:
        """The dense weight of a module, (out, in) or (vocabulary, width)."""
        parameter = self.model.get_parameter(f"{name}.weight")
        return parameter.detach()

    def take_hooks(self) -> tuple[Hook, ...]:
        """Hooks that earlier steps left for the next phase, each for one phase only; and those of every phase."""
        from core.masking import Held  # noqa: PLC0415 - masking and rounding stand on this module
        from core.rounding import StraightThrough  # noqa: PLC0415

        taken, self.hooks = tuple(self.hooks), []
        return (*taken, Held(self), *([StraightThrough(self)] if self.values else []))
