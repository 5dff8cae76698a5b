"""Distillation losses: zero for a copy, blind to padding, and honest about layer maps."""

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.errors import RecipeInvalid
from core.likelihood import soft_logits
from core.losses import Distillation, layer_pairs, map_kl, masked_mse, relative_mse
from core.model import load
from core.surgery import narrow
from core.taps import OutputTap, ScoreTap

WEIGHTS = {"logits": 1.0, "hidden": 1.0, "attention": 1.0}


def batch(pad: int = 0, seed: int = 0) -> dict[str, torch.Tensor]:
    """Three rows of 7 tokens and `pad` more of padding."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 40, (3, 7), generator=generator)
    ids = torch.cat([ids, torch.zeros(3, pad, dtype=torch.long)], dim=1)
    mask = torch.cat([torch.ones(3, 7), torch.zeros(3, pad)], dim=1).long()
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def objective(student: torch.nn.Module, teacher: torch.nn.Module, folder: Path, **more: object) -> Distillation:
    family = load(folder).family
    fields = {"weights": WEIGHTS, "temperature": 2.0, "layer_map": "identity", **more}
    return Distillation(student, teacher, family, **fields)  # type: ignore[arg-type]


def test_a_copy_has_no_loss_and_no_gradient(teacher: Path) -> None:
    model = load(teacher).model
    student = copy.deepcopy(model)
    metrics = objective(student, model.requires_grad_(False), teacher).step(batch(3), torch.Tensor.backward)
    assert all(abs(value) < 1e-9 for value in metrics.values())
    assert all(p.grad is None or float(p.grad.abs().max()) < 1e-6 for p in student.parameters())


def test_every_term_sees_a_changed_student(teacher: Path) -> None:
    model = load(teacher).model
    student = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    metrics = objective(student, model, teacher).step(batch(), torch.Tensor.backward)
    assert all(value > 0 for value in metrics.values())


def test_padding_changes_no_term(teacher: Path) -> None:
    model = load(teacher).model
    student = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(0.9)
    judged = objective(student, model, teacher)
    tight, padded = (judged.step(batch(pad), torch.Tensor.backward) for pad in (0, 9))
    assert padded == pytest.approx(tight, rel=1e-4)


def test_tapped_scores_are_the_models_own(teacher: Path) -> None:
    loaded = load(teacher)
    tap = ScoreTap(loaded.model, loaded.family)
    loaded.model.set_attn_implementation("eager")
    with torch.no_grad(), tap:
        out = loaded.model(**batch(), output_attentions=True)
    for (query, key), probabilities in zip(tap.take(), out.attentions, strict=True):
        torch.testing.assert_close(tap.scores(query, key).softmax(-1), probabilities)


def test_a_step_leaves_nothing_behind_in_the_models(teacher: Path) -> None:
    model = load(teacher).model
    student = copy.deepcopy(model)
    judged = objective(student, model, teacher)

    def hooks() -> int:
        return sum(len(module._forward_hooks) for net in (student, model) for module in net.modules())

    for net in (student, model):
        net(**batch(), output_hidden_states=True)  # Transformers leaves hooks of its own at the first call
    before = hooks()
    judged.step(batch(), torch.Tensor.backward)
    assert hooks() == before
    student(**batch())
    assert all(not tap.queries and not tap.keys for tap in judged.taps)


@given(st.floats(0.5, 8), st.integers(0, 1000))
def test_temperature_divides_logits_and_its_square_restores_their_scale(temperature: float, seed: int) -> None:
    """T² KL(z/T || y/T): logits T times as large at temperature T weigh T² as much as these at 1."""
    student, theirs = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(seed))
    plain = soft_logits(student, theirs, 1.0)
    hot = soft_logits(temperature * student, temperature * theirs, temperature)
    torch.testing.assert_close(hot, plain * temperature**2, rtol=1e-3, atol=1e-5)
    assert float(plain) > 0
    assert float(soft_logits(theirs, theirs, temperature)) == pytest.approx(0, abs=1e-6)


@given(st.floats(0.1, 10), st.integers(0, 1000))
def test_relative_error_is_one_for_silence_whatever_the_scale(scale: float, seed: int) -> None:
    """A student of zeros errs by 1, and units cancel; what the mask leaves out does not count."""
    student, theirs = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(seed))
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])[:, :, None]
    assert float(relative_mse(torch.zeros_like(theirs), theirs, mask)) == pytest.approx(1, rel=1e-5)
    same = relative_mse(scale * student, scale * theirs, mask)
    torch.testing.assert_close(same, relative_mse(student, theirs, mask), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(same, relative_mse(scale * (student + 9 * (1 - mask)), scale * theirs, mask))


@given(st.integers(0, 1000))
def test_map_error_is_the_mean_kl_of_real_queries(seed: int) -> None:
    """By hand for one query; a copy errs by nothing; padded keys and queries do not count."""
    student, theirs = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))  # batch 2, heads 3
    valid = torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    found = map_kl(student, theirs, valid)
    p, q = (z[0, :, :3, :3].log_softmax(-1) for z in (theirs, student))
    per_query = (p.exp() * (p - q)).sum(-1)  # 3 heads x 3 queries; the row of one token says nothing
    torch.testing.assert_close(found, per_query.sum() / (3 * 4), rtol=1e-4, atol=1e-6)
    assert float(map_kl(theirs, theirs, valid)) == pytest.approx(0, abs=1e-6)
    hidden = (1 - valid)[:, None, None, :] + (1 - valid)[:, None, :, None]
    torch.testing.assert_close(map_kl(student + 3 * hidden, theirs, valid), found)


def test_masked_error_is_the_mean_over_what_the_mask_holds() -> None:
    ours, theirs = torch.tensor([[[1.0, 3.0], [9.0, 9.0]]]), torch.zeros(1, 2, 2)
    assert float(masked_mse(ours, theirs, torch.tensor([[[1.0], [0.0]]]))) == 5.0


@pytest.mark.parametrize(("student", "theirs", "expected"), [(2, 2, [(0, 0), (1, 1)]), (2, 6, [(0, 2), (1, 5)])])
def test_uniform_pairs_each_student_layer_with_the_last_of_its_block(
    student: int, theirs: int, expected: list[tuple[int, int]]
) -> None:
    assert layer_pairs(student, theirs, "uniform") == expected


def test_a_wrong_layer_map_is_refused() -> None:
    with pytest.raises(RecipeInvalid, match="equal depth"):
        layer_pairs(3, 6, "identity")
    with pytest.raises(RecipeInvalid, match="multiple"):
        layer_pairs(4, 6, "uniform")


def test_tapped_outputs_are_what_attention_adds(teacher: Path) -> None:
    """Of every layer: what its normalisation gets is this and the input."""
    loaded = load(teacher)
    tap, heard = OutputTap(loaded.model, loaded.family), []
    norm = loaded.model.get_submodule("bert.encoder.layer.1.attention.output.LayerNorm")
    handle = norm.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    with torch.no_grad(), tap:
        out = loaded.model(**batch(), output_hidden_states=True)
    handle.remove()
    found = tap.take()
    assert [*found] == [*range(loaded.model.config.num_hidden_layers)]
    torch.testing.assert_close(heard[0], found[1] + out.hidden_states[1])
    assert not tap.outputs


def test_a_layer_without_heads_has_no_output_to_follow(teacher: Path) -> None:
    loaded = load(teacher)
    student = copy.deepcopy(loaded.model)
    block = loaded.family.attention.at("0")
    reader = student.get_submodule(block.reader)
    narrow(student, block, torch.zeros(0, dtype=torch.long), reader.weight.detach(), reader.bias.detach())
    judged = Distillation(
        student, loaded.model, loaded.family, weights=WEIGHTS, temperature=1.0, layer_map="identity",
        attention="outputs",
    )  # fmt: skip
    assert judged.step(batch(), torch.Tensor.backward)["attention"] >= 0
