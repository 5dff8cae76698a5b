"""Bits for groups of rows: what a file holds, what the search follows, what an allocation keeps to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from core import resolve
from core.assign import assign
from core.bit_search import Relaxed, TwoLevels
from core.data import Data
from core.errors import RecipeInvalid, TargetImpossible
from core.export.weights import collect
from core.grid import fit
from core.inspect import shape_of
from core.mixed import MixedEmbedding, MixedLinear
from core.pipeline import compress
from core.plan import ModelShape, fill, size_of
from core.probe import Loss
from core.progress import Silent
from core.quantize.mixed_bits import MixedBits
from core.recipe import Recipe, Target
from core.shared import Shared
from tests import tiny
from tests.methods.conftest import text
from tests.methods.test_gptq import TRAINING, compiled
from tests.methods.test_int8 import prove
from tests.methods.test_weighted_svd import logits_error

STEP: dict[str, Any] = {"method": "mixed_bits", "blocks": 8, "group": 16, "steps": 12, "calibration_rows": 64}


def drawn(shared: Shared, seed: int, step: dict[str, Any], tokens: int | None = None) -> dict[str, Any]:
    """The step with choices by chance; those of the first linear are all nothing."""
    found, generator = MixedBits.model_validate(step), torch.Generator().manual_seed(seed)
    each = {}
    for place, name in enumerate(shared.student().compressible()):
        rows = len(shared.student().weight(name))
        groups = len(found.rows_of(tokens if place == 0 and tokens else rows))
        letters = torch.randint(0, len(found.choices), (groups,), generator=generator).tolist()
        each[name] = "0" * groups if place == 1 else "".join(map(str, letters))
    return {**step, "each": each}


@pytest.fixture
def judged(shared: Shared, teacher: Path) -> Shared:
    """The same, with rows to decide by."""
    return Shared(shared.teacher, shared.family, shared.train, 0, shared.device, shared.folder, text(teacher, 80, 3))


@pytest.mark.parametrize("choices", [[0, 2, 4, 8], [1, 1.6]])
def test_files_hold_each_row_in_its_bits_and_are_as_small_as_planned(
    shared: Shared, teacher: Path, tmp_path: Path, choices: list[float]
) -> None:
    """Trained, in both forms; a linear of which no row is left among them."""
    steps = [drawn(shared, 0, {**STEP, "choices": choices}), TRAINING]
    prove(steps, shared, teacher, tmp_path)
    build = compiled(shared, *steps)
    stored = collect(build.model.eval(), build.masks, build.values)
    kinds = {len(one.levels) for name, one in stored.coded.items() if ".of" in name}
    assert kinds == {levels for levels in MixedBits.model_validate(steps[0]).levels if levels}
    assert {type(module) for module in build.model.modules()} >= {MixedLinear, MixedEmbedding}
    second = [*shared.student().compressible()][1]
    found = build.model.get_submodule(second)
    assert isinstance(found, MixedLinear)
    assert bool(found.dense().any()) == (0 not in choices)


def test_rows_that_tokens_share_are_named_by_one_table(shared: Shared, teacher: Path, tmp_path: Path) -> None:
    steps = [{"method": "vocabulary", "tokens": 40}, drawn(shared, 1, STEP, tokens=40), TRAINING]
    prove(steps, shared, teacher, tmp_path)


@pytest.mark.parametrize(("bits", "method"), [(1.6, "ternary"), (1, "binary")])
def test_all_rows_in_few_values_are_the_mechanism_of_these_values(shared: Shared, bits: float, method: str) -> None:
    """To the bit, after a training that moved both."""
    steps = drawn(shared, 0, {**STEP, "choices": [bits, 4], "group": 64})
    steps["each"] = {name: "0" * len(found) for name, found in steps["each"].items()}
    mixed, alone = compiled(shared, steps, TRAINING), compiled(shared, {"method": method}, TRAINING)
    with torch.no_grad():
        for name in shared.student().compressible():
            module = mixed.model.get_submodule(name)
            assert isinstance(module, MixedLinear | MixedEmbedding)
            weight = module.stacked()[module.row.long()]
            assert torch.equal(weight, alone.model.get_parameter(f"{name}.weight")), name


def relaxed(seed: int) -> tuple[Relaxed, list[torch.Tensor]]:
    """Of a weight in three choices, by chance; what it is in each."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 8, generator=generator)
    grids = [None, *(fit(weight, torch.ones(1), None, levels, 8) for levels in (4, 16))]
    one = Relaxed(nn.Parameter(weight.clone()), None, grids, [4, 2], torch.tensor([[0.0, 8, 16], [0, 4, 8]]))
    with torch.no_grad():
        one.logits.copy_(torch.randn(2, 3, generator=generator))
    one.draw(0.7, generator)
    return one, [torch.zeros(6, 8) if grid is None else grid.quick(weight) for grid in grids]


@given(st.integers(0, 1000))
def test_the_gradient_at_a_mixture_is_that_of_shares_and_weights(seed: int) -> None:
    """What both levels follow is what a graph through the mixture gives, straight through what rounds."""
    one, rounded = relaxed(seed)
    one.put()
    shares = one.shares.detach().clone().requires_grad_(True)
    latent = one.latent.clone().requires_grad_(True)
    each = [torch.zeros(6, 8), *(latent + (weight - latent).detach() for weight in rounded[1:])]
    mixed = sum((shares[one.group, choice, None] * weight for choice, weight in enumerate(each)), torch.zeros(6, 8))
    torch.testing.assert_close(one.parameter.detach(), mixed.detach())
    target = torch.randn(6, 8, generator=torch.Generator().manual_seed(seed + 1))
    ((mixed - target).square()).sum().backward()
    ((one.parameter - target).square()).sum().backward()
    assert shares.grad is not None
    assert latent.grad is not None
    assert one.parameter.grad is not None
    torch.testing.assert_close(one.worth(), shares.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(one.passed(one.parameter.grad, 0.0), latent.grad, rtol=1e-4, atol=1e-5)


@given(st.integers(0, 1000), st.floats(0.01, 10))
def test_the_lasso_is_the_slope_of_the_norms_of_groups(seed: int, weight: float) -> None:
    one, _ = relaxed(seed)
    latent = one.latent.clone().requires_grad_(True)
    (weight * (latent[:4].norm() + latent[4:].norm())).backward()
    assert latent.grad is not None
    torch.testing.assert_close(one.passed(torch.zeros(6, 8), weight), latent.grad)


@given(st.floats(0.5, 2))
def test_the_penalty_is_nothing_within_the_band_and_grows_outside(share: float) -> None:
    levels = TwoLevels(None, [], MixedBits(band=0.1), 100.0)  # type: ignore[arg-type]
    found = float(levels.penalty(torch.tensor(100.0 * share)))
    if 1 / 1.09 < share < 1.09:
        assert found == 0
    elif not 1 / 1.11 < share < 1.11:
        assert found == pytest.approx(abs(torch.tensor(share).log().item()), rel=1e-3)


@given(st.integers(0, 1000))
def test_shares_of_little_temperature_are_a_choice(seed: int) -> None:
    one, _ = relaxed(seed)
    one.draw(1e-4, torch.Generator().manual_seed(seed))
    assert float(one.shares.detach().max(dim=1).values.min()) > 0.99


@pytest.fixture(scope="module")
def bought(shared: Shared, teacher: Path) -> tuple[Shared, Any]:
    """Both ways at a mean of two bits."""
    judged = Shared(shared.teacher, shared.family, shared.train, 0, shared.device, shared.folder, text(teacher, 80, 3))
    recipe = Recipe.model_validate({"steps": [{**STEP, "bits": 2}, TRAINING]})
    return judged, assign(recipe, Target(), shape_of(teacher)[0], judged)


def test_both_ways_are_found_and_the_better_one_comes_first(bought: tuple[Shared, Any]) -> None:
    _, found = bought
    assert {one.by for one in found} == {"gumbel", "closed_form"}
    assert found[0].loss <= found[1].loss
    for one in found:
        assert sum(one.shares.values()) == pytest.approx(1)
        mean = sum(float(bits) * share for bits, share in one.shares.items())
        assert 1.8 < mean <= 2  # all that may be spent, but for what no group takes
    (search,) = (one for one in found if one.by == "gumbel")
    assert 1 / 1.1 < search.expected_size < 1.1


def test_searched_bits_beat_uniform_bits(bought: tuple[Shared, Any]) -> None:
    """At the same mean; before training and after."""
    judged, found = bought
    uniform = compiled(judged, {**STEP, "choices": [2, 4], "bits": 2, "each": {
        name: "0" * len(MixedBits(blocks=8).rows_of(len(judged.student().weight(name))))
        for name in judged.student().compressible()
    }})  # fmt: skip
    assert found[0].loss < Loss(judged, judged.select).of(uniform.model.eval())
    even = compiled(judged, {**STEP, "choices": [2, 4], "bits": 2, "each": {
        name: "0" * len(MixedBits(blocks=8).rows_of(len(judged.student().weight(name))))
        for name in judged.student().compressible()
    }}, {**TRAINING, "epochs": 1})  # fmt: skip
    mixed = compiled(judged, {**STEP, "bits": 2, "each": found[0].each}, {**TRAINING, "epochs": 1})
    assert logits_error(mixed, judged) < logits_error(even, judged)


def all_in(choice: str, shape: ModelShape) -> dict[str, str]:
    """The same choice for every group."""
    step = MixedBits.model_validate(STEP)
    return {matrix.name: choice * len(step.rows_of(matrix.rows)) for matrix in shape.matrices}


def test_a_search_is_made_once_and_its_file_is_within_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that comes back with the profile of its first attempt plans as that one did."""
    teacher = tiny.write_model(tmp_path / "teacher", steps=60)
    data = Data(
        tiny.write_csv(tmp_path / "train.csv", tiny.sentences(300, seed=1)),
        tiny.write_csv(tmp_path / "eval.csv", tiny.sentences(60, seed=2)),
    )
    recipe, shape = Recipe.model_validate({"steps": [STEP, TRAINING]}), shape_of(teacher)[0]
    two, four = (
        size_of(recipe.with_assigned(all_in(choice, shape)), shape).file_bytes for choice in "12"
    )  # in two bits, and in four
    target = Target(max_bytes=(two + four) // 2)
    made = compress(teacher, recipe, data, Silent(), target=target, out=tmp_path / "out", threads=1)
    report = made.report
    assert report.point.sizes.bytes_on_disk["model.onnx"] <= target.max_bytes
    assert [one.chosen for one in report.searched] == [True, False]
    page = (made.folder / "report.html").read_text()
    assert page.count("Which bits the rows got") == 1
    assert "closed form" in page
    assert not report.point.shortfall
    resolved = Recipe.model_validate(report.recipe)
    size = size_of(resolved, shape)
    assert size.size_bytes == report.point.planned_bytes
    assert 0.97 * target.max_bytes < size.file_bytes <= target.max_bytes  # what there is is spent

    def never(*_: object) -> None:
        raise AssertionError("it was searched once more")

    monkeypatch.setattr(resolve, "assign", never)
    again = compress(
        teacher, recipe, data, Silent(), target=target, out=tmp_path / "again", threads=1, profile=made.profile
    )
    assert again.report.recipe == report.recipe
    assert again.report.weights_sha256 == report.weights_sha256


def test_bytes_that_hold_nothing_are_refused_with_the_number(judged: Shared, teacher: Path) -> None:
    recipe = Recipe.model_validate({"steps": [{**STEP, "search": "closed_form"}, TRAINING]})
    with pytest.raises(TargetImpossible, match="stand beside what it chooses bits for"):
        assign(recipe, Target(max_bytes=10_000), shape_of(teacher)[0], judged)


def test_values_that_follow_a_training_need_one() -> None:
    Recipe.model_validate({"steps": [{**STEP, "choices": [0, 2, 4]}]})
    with pytest.raises(ValidationError, match="add one of"):
        Recipe.model_validate({"steps": [{**STEP, "choices": [0, 1.6, 4]}]})


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([{**STEP, "choices": [4, 2]}], "they must rise"),
        ([{**STEP, "choices": [0, 7]}], "7 bits; legal are"),
        ([{**STEP, "last_temperature": 2}], "at most temperature, which is 1"),
        ([{**STEP, "each": {"a": "013"}}], "digits below 3"),
        ([{"method": "weighted_svd", "keep": 0.5}, STEP], "leave out weighted_svd"),
        ([{"method": "obs", "keep": 0.5, "when": "once"}, STEP], "leave out obs"),
        ([{"method": "vocabulary"}, TRAINING, STEP], "cannot come after a training"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_a_job(steps: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Recipe.model_validate({"steps": [*steps, TRAINING]})


@pytest.mark.parametrize(
    ("steps", "target", "says"),
    [
        ([STEP], {}, "give one of the targets bytes_ratio, max_bytes"),
        ([STEP], {"bytes_ratio": 12, "parameter_ratio": 2}, "leave parameter_ratio out"),
        ([{**STEP, "bits": 2}], {"bytes_ratio": 12}, "leave bytes_ratio out"),
        ([{"method": "structured"}, STEP], {"bytes_ratio": 12}, 'structured has keep "auto"'),
    ],
)
def test_what_a_search_cannot_fill_is_refused(
    teacher: Path, steps: list[dict[str, Any]], target: dict[str, float], says: str
) -> None:
    recipe = Recipe.model_validate({"steps": [*steps, TRAINING]})
    with pytest.raises(RecipeInvalid, match=says):
        fill(recipe, Target.model_validate(target), shape_of(teacher)[0])


def test_a_batch_may_read_no_row_of_a_part(shared: Shared) -> None:
    """Of a table of which one group of rows, that no text has, is stored in more bits than the others."""
    steps = drawn(shared, 0, {**STEP, "choices": [1.6, 4]})
    table = next(iter(shared.student().compressible()))
    steps["each"] = {name: "0" * len(found) for name, found in steps["each"].items()}
    counts = shared.train.counts(len(shared.student().weight(table)))
    sizes = MixedBits.model_validate(steps).rows_of(len(counts))
    per_group = torch.stack([one.sum() for one in counts.split(sizes)])
    rare = int(per_group.argmin())
    steps["each"][table] = "".join("1" if group == rare else "0" for group in range(len(sizes)))
    build = compiled(shared, steps, {**TRAINING, "batch_size": 1})
    assert f"{table}.of16" in build.values
