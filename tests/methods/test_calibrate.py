"""Second moments: what layers see, what the loss feels, and that nothing of it stays in the model."""

import copy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from core.batches import Batches, inputs
from core.calibrate import UNSEEN, damped, moments
from core.errors import TrainingDiverged
from core.model import Loaded, load
from core.shared import Shared
from tests import tiny
from tests.methods.conftest import text

CPU = torch.device("cpu")


def test_inputs_are_the_mean_over_real_tokens(loaded: Loaded, shared: Shared) -> None:
    """Rows alone or padded beside longer ones give the same moments."""
    sample = shared.train.sample(40, 0)
    alone, together = (
        moments(loaded.model, loaded.family, Batches(sample, size, seed=0, device=CPU), hidden=0.0) for size in (1, 40)
    )
    for name, one in alone.items():
        torch.testing.assert_close(one.inputs, together[name].inputs, atol=1e-5, rtol=1e-4)


def test_the_embeddings_inputs_are_the_frequencies_of_its_tokens(loaded: Loaded, shared: Shared) -> None:
    found = moments(loaded.model, loaded.family, Batches(shared.train, 32, seed=0, device=CPU))[loaded.family.embedding]
    counts = torch.zeros(len(found.inputs), dtype=torch.float64) + UNSEEN
    for row in shared.train.ids:
        counts += torch.bincount(torch.from_numpy(row).long(), minlength=len(counts))
    torch.testing.assert_close(found.inputs, counts / counts.sum())


def test_the_gradient_moment_predicts_the_loss_of_a_small_change(teacher: Path, tmp_path: Path) -> None:
    """1/2 tr(G D C Dᵀ) against the distillation loss itself: right in size, though inputs and gradients are not
    independent and the draws are few. On an untrained model, whose classes are all likely."""
    model = load(tiny.write_model(tmp_path / "untrained")).model.requires_grad_(False)
    family = load(teacher).family
    name = "bert.encoder.layer.1.output.dense"
    batches = list(Batches(text(teacher, 300, seed=1), 50, seed=0, device=CPU))
    found = moments(model, family, [b for _ in range(8) for b in batches], temperature=1.0, hidden=0.0)[name]
    student = copy.deepcopy(model)
    weight = student.get_parameter(f"{name}.weight")
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    change = 0.3 * weight.std() * noise
    predicted = 0.5 * float(torch.trace(found.outputs @ change.double() @ found.inputs @ change.double().T))
    weight.add_(change)
    total = rows = 0.0
    for batch in batches:
        ours, theirs = (F.log_softmax(net(**inputs(batch)).logits.double(), -1) for net in (student, model))
        total += float(F.kl_div(ours, theirs, reduction="sum", log_target=True))
        rows += len(ours)
    assert 0.2 < predicted / (total / rows) < 5


def test_the_hidden_term_predicts_the_error_of_the_states(teacher: Path, tmp_path: Path) -> None:
    """The same for the relative squared error of hidden states, whose weight drowns the logits here."""
    weight_of_it, name = 1e6, "bert.encoder.layer.1.output.dense"
    model = load(tiny.write_model(tmp_path / "untrained")).model.requires_grad_(False)
    batches = list(Batches(text(teacher, 300, seed=1), 50, seed=0, device=CPU))
    found = moments(model, load(teacher).family, [b for _ in range(8) for b in batches], hidden=weight_of_it)[name]
    student = copy.deepcopy(model)
    weight = student.get_parameter(f"{name}.weight")
    change = 0.1 * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    predicted = 0.5 * float(torch.trace(found.outputs @ change.double() @ found.inputs @ change.double().T))
    weight.add_(change)
    errors = []
    for batch in batches:
        valid = batch["attention_mask"].bool()
        ours, theirs = (net(**inputs(batch), output_hidden_states=True).hidden_states for net in (student, model))
        for a, b in zip(ours, theirs, strict=True):
            energy = b[valid].square().mean()
            rows = ((a - b).square().mean(dim=2) * valid).sum(dim=1) / valid.sum(dim=1)
            errors.append(float((rows / energy).sum()))
    assert 0.5 < predicted / (weight_of_it * sum(errors) / 300) < 2


def test_the_same_seed_gives_the_same_moments_and_the_model_is_left_alone(loaded: Loaded, shared: Shared) -> None:
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    first, second = (
        moments(loaded.model, loaded.family, Batches(shared.train, 32, seed=0, device=CPU), seed=3) for _ in range(2)
    )
    for name, one in first.items():
        assert torch.equal(one.inputs, second[name].inputs)
        assert torch.equal(one.outputs, second[name].outputs)
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.model.state_dict().items())
    taps = [hook for module in loaded.model.modules() for hook in module._forward_hooks.values()]
    assert not any("_Tap" in repr(hook) for hook in taps)
    assert all(parameter.grad is None for parameter in loaded.model.parameters())


def test_damping_makes_every_moment_invertible_and_a_dead_layer_neutral() -> None:
    singular = torch.ones(4, 4, dtype=torch.float64)
    torch.linalg.cholesky(damped(singular, 1e-3))
    assert torch.equal(damped(torch.zeros(3, 3, dtype=torch.float64), 1e-3), torch.eye(3, dtype=torch.float64))


def test_a_teacher_that_is_not_finite_is_refused() -> None:
    with pytest.raises(TrainingDiverged, match="not finite"):
        damped(torch.full((3, 3), float("nan"), dtype=torch.float64), 1e-3)
