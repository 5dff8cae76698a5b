"""Early stop: the best weights on select are what a phase leaves."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from core.early_stop import BestOnSelect
from core.phase import Backward, Build, Hook, Phase
from core.progress import Meter, Silent
from core.shared import Shared
from core.train import train

CPU = torch.device("cpu")


class Drift:
    """An objective that nears the teacher's classifier for some steps, then drives the weights away."""

    def __init__(self, build: Build, near: int) -> None:
        self.weight = build.model.get_parameter("classifier.weight")
        self.origin = build.teacher.get_parameter("classifier.weight")
        self.near, self.steps = near, 0

    def step(self, batch: Any, backward: Backward) -> dict[str, float]:
        self.steps += 1
        loss = (self.weight - self.origin).square().sum() if self.steps <= self.near else -10 * self.weight[0].sum()
        backward(loss)
        return {"loss": float(loss.detach())}


class Unsettled(Hook):
    def settled(self) -> bool:
        return False


@pytest.fixture
def watched(shared: Shared) -> Build:
    """A student whose classifier is a little off."""
    build = replace(shared, select=shared.train.sample(20, 1), _made={}).student()
    with torch.no_grad():
        build.model.get_parameter("classifier.weight")[0].add_(0.1)
    return build


def run(build: Build, hook: BestOnSelect, near: int, others: tuple[Hook, ...] = ()) -> int:
    optimizer = torch.optim.SGD([build.model.get_parameter("classifier.weight")], lr=0.01)
    phase = Phase("drift", build.model, Drift(build, near), (optimizer,), [0], 100, lambda _: 1.0, (*others, hook))
    return train(phase, Meter(Silent()), device=CPU)


def test_a_phase_ends_with_its_best_weights(watched: Build) -> None:
    """What came after the best look is thrown away, and the phase ends after the looks it was given."""
    origin = watched.teacher.get_parameter("classifier.weight")
    hook = BestOnSelect(watched, every=0.1, patience=3)
    before = (watched.model.get_parameter("classifier.weight") - origin).norm()
    steps = run(watched, hook, near=55)
    assert 60 <= steps < 100
    after = (watched.model.get_parameter("classifier.weight") - origin).norm()
    assert after < 0.5 * before


def test_looks_that_find_better_do_not_count(watched: Build) -> None:
    assert run(watched, BestOnSelect(watched, every=0.1, patience=1), near=100) == 100


def test_what_is_near_enough_is_not_trained(watched: Build) -> None:
    before = watched.model.get_parameter("classifier.weight").clone()
    assert run(watched, BestOnSelect(watched, every=0.1, patience=0, enough=10), near=100) == 0
    assert torch.equal(watched.model.get_parameter("classifier.weight"), before)


def test_a_training_ends_when_it_is_near_enough(watched: Build) -> None:
    free = BestOnSelect(watched, every=0.1, patience=0, enough=1e-12)
    assert run(watched, free, near=100) == 100
    with torch.no_grad():
        watched.model.get_parameter("classifier.weight")[0].add_(0.1)
    assert 0 < run(watched, BestOnSelect(watched, every=0.1, patience=0, enough=2 * free.kl), near=100) < 100


def test_what_is_not_settled_is_never_near_enough(watched: Build) -> None:
    hook = BestOnSelect(watched, every=0.1, patience=0, enough=10)
    assert run(watched, hook, near=100, others=(Unsettled(),)) == 100


def test_what_other_hooks_still_change_is_never_the_best(watched: Build) -> None:
    """Weights from before the masks were complete would not have the size that was promised."""
    hook = BestOnSelect(watched, every=0.1, patience=1)
    assert run(watched, hook, near=0, others=(Unsettled(),)) == 100
    assert hook.kl == float("inf")  # it never looked


def test_a_checkpoint_holds_the_best(watched: Build) -> None:
    """State and tensors given back make a hook that goes on from the same best."""
    hook = BestOnSelect(watched, every=0.1, patience=3)
    run_phase = Phase("none", watched.model, Drift(watched, 1), (), [0], 1, lambda _: 1.0, (hook,))
    hook.start(run_phase)
    hook.after_step(0.0)
    other = BestOnSelect(watched, every=0.1, patience=3)
    other.start(run_phase)
    other.load_state_dict(hook.state_dict())
    other.load_tensors(hook.tensors())
    best = {name: tensor.clone() for name, tensor in watched.model.state_dict().items()}
    with torch.no_grad():
        watched.model.get_parameter("classifier.weight")[0].add_(1.0)
    other.end()
    assert all(torch.equal(tensor, best[name]) for name, tensor in watched.model.state_dict().items())
