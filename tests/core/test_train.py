"""The training loop knows only phases: three throw-away mechanisms that no line of it was written for."""

import time
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn

from core.checkpoint import Checkpoints, Done, Keeper
from core.errors import TrainingDiverged
from core.masking import Held
from core.model import load
from core.phase import Backward, Build, Hook, Metrics, Phase, linear_decay
from core.progress import Meter, Silent
from core.shared import Shared
from core.train import train

CPU = torch.device("cpu")
Pair = tuple[torch.Tensor, torch.Tensor]


def constant(_: float) -> float:
    return 1.0


def data(rows: int = 16, width: int = 6) -> list[Pair]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, width, generator=generator)
    return [(x, x @ torch.linspace(-1, 1, width)[:, None])]


def phase(model: nn.Module, objective: object, optimizers: list[torch.optim.Optimizer], **more: object) -> Phase:
    fields = {"batches": data(), "steps": 30, "schedule": constant, "clip_norm": None, **more}
    return Phase("test", model, objective, optimizers, **fields)  # type: ignore[arg-type]


class SubNetworks:
    """DynaBERT's shape: several widths a step, one backward each, gradients added up."""

    def __init__(self, model: nn.Linear) -> None:
        self.model = model

    def step(self, batch: Pair, backward: Backward) -> Metrics:
        losses = {}
        for width in (2, 4, 6):
            x, y = batch
            loss = (x[:, :width] @ self.model.weight[:, :width].T + self.model.bias - y).square().mean()
            backward(loss)
            losses[f"width_{width}"] = float(loss.detach())
        return losses


def test_several_forwards_and_backwards_a_step_add_up_to_one_move() -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 1)
    by_hand = nn.Linear(6, 1)
    by_hand.load_state_dict(model.state_dict())
    train(phase(model, SubNetworks(model), [torch.optim.SGD(model.parameters(), lr=0.05)], steps=1), Meter(Silent()),
          device=CPU)  # fmt: skip
    (x, y), total = data()[0], torch.tensor(0.0)
    for width in (2, 4, 6):
        total = total + (x[:, :width] @ by_hand.weight[:, :width].T + by_hand.bias - y).square().mean()
    total.backward()
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(ours.detach(), (theirs - 0.05 * theirs.grad).detach())


class Search(nn.Module):
    """AQ-BERT's shape: weights learn on one split, a gate on another, each by an optimizer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(6, 1))
        self.gate = nn.Parameter(torch.ones(1))

    def step(self, batch: tuple[Pair, Pair], backward: Backward) -> Metrics:
        (x, y), (x2, y2) = batch
        loss = (x @ self.weight * self.gate - y).square().mean()
        backward(loss, inputs=[self.weight])
        gate_loss = (x2 @ self.weight * self.gate - y2).square().mean() + self.gate.square().sum()
        backward(gate_loss, inputs=[self.gate])
        return {"loss": float(loss.detach()), "gate": float(gate_loss.detach())}


def test_two_optimizers_on_two_splits_each_move_their_own_parameters_only() -> None:
    torch.manual_seed(0)
    model = Search()
    weights, gate = torch.optim.Adam([model.weight], lr=0.05), torch.optim.SGD([model.gate], lr=0.0)
    one, two = data()[0], data(rows=8)[0]
    train(phase(model, model, [weights, gate], batches=[(one, two)]), Meter(Silent()), device=CPU)
    assert float(model.gate.detach()) == 1.0  # its own rate is zero: the weights' optimizer did not touch it
    assert float(model.weight.detach().abs().sum()) > 0.5
    assert (one[0] @ model.weight - one[1]).square().mean() < 0.5 * one[1].square().mean()


class Narrow(Hook):
    """ROSITA's shape: inputs removed in the middle of the run, the optimizer's state carried over."""

    def __init__(self, model: nn.Linear, keep: list[int]) -> None:
        self.model, self.keep, self.done = model, keep, False
        self.before: torch.Tensor | None = None

    def before_step(self, fraction: float) -> bool:
        if self.done or fraction < 0.5:
            return False
        self.model.weight.data = self.model.weight.data[:, self.keep].clone()
        self.model.weight.grad = None
        self.done = True
        return True

    def reshape(self, optimizer: torch.optim.Optimizer) -> None:
        state = optimizer.state[self.model.weight]
        self.before = state["exp_avg"].clone()
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = state[name][:, self.keep].clone()


class Follow:
    def __init__(self, model: nn.Linear) -> None:
        self.model = model
        self.losses: list[float] = []

    def step(self, batch: Pair, backward: Backward) -> Metrics:
        x, y = batch
        loss = (x[:, -self.model.weight.shape[1] :] @ self.model.weight.T + self.model.bias - y).square().mean()
        backward(loss)
        self.losses.append(float(loss.detach()))
        return {"loss": self.losses[-1]}


def test_a_width_change_in_mid_run_keeps_the_optimizer_state_of_what_stays() -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    hook, objective = Narrow(model, keep=[2, 3, 4, 5]), Follow(model)
    steps = train(phase(model, objective, [optimizer], hooks=[hook]), Meter(Silent()), device=CPU)
    state = optimizer.state[model.weight]
    assert steps == 30
    assert state["exp_avg"].shape == model.weight.shape == (1, 4)
    assert hook.before is not None
    assert hook.before.shape == (1, 6)
    assert int(state["step"]) == 30  # the count went on: the state was kept, not made anew
    assert objective.losses[-1] < objective.losses[15]


class Watch(Hook):
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fractions: list[float] = []

    def start(self, phase: Phase) -> None:
        self.calls.append("start")

    def before_step(self, fraction: float) -> bool:
        self.fractions.append(fraction)
        return False

    def end(self) -> None:
        self.calls.append("end")


def test_a_time_budget_ends_the_phase_with_the_schedule_at_its_end() -> None:
    model = nn.Linear(6, 1)
    hook = Watch()

    def slow() -> Iterator[Pair]:
        for _ in count():
            time.sleep(0.01)
            yield data()[0]

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    endless: Iterable[Pair] = slow()
    long = phase(model, Follow(model), [optimizer], batches=endless, steps=10**6, hooks=[hook])
    steps = train(long, Meter(Silent()), device=CPU, budget_s=0.3)
    assert 0 < steps < 10**6
    assert hook.calls == ["start", "end"]
    assert hook.fractions == sorted(hook.fractions)
    assert hook.fractions[-1] > 0.5


def test_a_loss_that_is_not_finite_is_an_error_with_a_name() -> None:
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(TrainingDiverged, match="lower the learning rate"):
        train(phase(model, Follow(model), [optimizer]), Meter(Silent()), device=CPU)


def test_linear_decay_rises_to_one_and_falls_to_zero() -> None:
    factor = linear_decay(0.1)
    values = [factor(i / 1000) for i in range(1001)]
    assert values[0] == 0
    assert max(values) == pytest.approx(1, abs=0.02)
    assert values[1000] == pytest.approx(0, abs=1e-9)
    assert all(0 <= value <= 1 for value in values)


def test_hooks_left_by_a_step_act_in_one_phase_only(teacher: Path) -> None:
    loaded = load(teacher)
    shared = Shared(loaded.model, loaded.family, train=None, seed=0, device=CPU)  # type: ignore[arg-type]
    build = Build(loaded.model, shared)
    build.hooks.append(Watch())
    left, held = build.take_hooks()
    assert isinstance(left, Watch)
    (still,) = build.take_hooks()  # masks are held in every phase
    assert isinstance(held, Held)
    assert isinstance(still, Held)


def test_no_schedule_runs_backwards_after_a_resume(teacher: Path) -> None:
    """A phase that a time limit had driven to 0.9 by its third step goes on from 0.9, however much time is left."""

    class Resumed(Keeper):
        def restore(self, *_: object) -> Done:
            return Done(3, 0.9)

    seen: list[float] = []

    def schedule(fraction: float) -> float:
        seen.append(fraction)
        return 1 - fraction

    loaded, model = load(teacher), nn.Linear(6, 1)
    shared = Shared(loaded.model, loaded.family, train=None, seed=0, device=CPU)  # type: ignore[arg-type]
    build = Build(loaded.model, shared)
    resumed = phase(model, SubNetworks(model), [torch.optim.SGD(model.parameters(), lr=1e-3)], schedule=schedule)
    train(resumed, Meter(Silent()), device=CPU, budget_s=60, keeper=Resumed(Checkpoints(), ""), build=build)
    assert seen[0] >= 0.9
    assert seen == sorted(seen)
